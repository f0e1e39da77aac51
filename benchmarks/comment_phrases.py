"""Measure whether people who did not contribute to a phrase agree with its sign.

    python -m benchmarks.comment_phrases --data DIR --json F

`DIR` holds reviews as in `benchmarks.comments`. The people are divided into two halves. Phrases come from the
comments of one half, with a reader that learned from that half. In the comments of the other half on the same
item that contain the phrase, the mean rating says who was right: a praised phrase should be above, and a
criticised one below, the mean rating of all comments. Then the halves change places.

Each row is one way to tell praise from criticism:

`stated and read`
    As in the product: from sentences, and from the rating that came with each comment.
`read`
    From sentences alone, as for comments without a rating.
`stated`
    From the ratings of the comments with the phrase alone: the simplest rival, with the same least evidence.

`agreement` is the share of phrases whose sign the other half confirms, and `agreement_of_mean_rating` the
same if each phrase had the sign of the mean rating of the comments on the item that it comes from. A phrase
that fewer than `--least` people of the other half use is not judged: with one or two ratings the answer is
mostly chance.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.comments import Reviews
from benchmarks.datasets import PRODUCT_EVENT_TYPES
from recsys.model.comments import CommentReader
from recsys.model.phrases import sentences_of
from recsys.model.recommender import Recommender
from recsys.publishing.phrase_opinions import Comment, Phrase, PhraseReader
from recsys.settings import Settings
from recsys.training.comments import fit_comment_reader
from recsys.warehouse.analytics import MIN_PEOPLE

WAYS = ("stated and read", "read", "stated")


class Reader:
    """What `PhraseReader` asks of a recommender."""

    def __init__(self, reader: CommentReader, *, blind: bool) -> None:
        self._reader, self._blind = reader, blind

    def comment_opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return predicted values and sentiments; a blind reader finds all sentences alike."""
        if self._blind:
            return np.zeros(len(texts), dtype=np.float32), np.zeros(len(texts), dtype=np.int8)
        return self._reader.opinions(texts)


@dataclass(frozen=True)
class Judged:
    """A phrase and what the other half says of it.

    Attributes
    ----------
    held_out
        Mean rating of the other half's comments with the phrase.
    item, catalogue
        Mean rating of the other half's comments on the item, and on all items.
    used
        Mean rating of the comments on the item that the phrase comes from.
    """

    item_id: str
    phrase: Phrase
    people: int
    held_out: float
    item: float
    catalogue: float
    used: float

    def agrees(self, praised: bool, mean: float) -> bool:
        """Return whether the other half is on the same side of a mean; equal is on neither side."""
        return self.held_out > mean if praised else self.held_out < mean


def judge(reviews: Reviews, reader: CommentReader, used: NDArray[np.bool_], way: str) -> list[Judged]:
    """Find phrases in the comments marked in `used` [events] and look them up in the others."""
    comments: dict[int, list[Comment]] = defaultdict(list)
    for row in np.flatnonzero(used):
        stated = None if way == "read" else (reviews.rating[row] - 1) / 4
        comments[reviews.item[row]].append(
            Comment(str(reviews.item[row]), str(reviews.keys[reviews.user[row]]), reviews.texts[row], stated)
        )
    sample = [comment for theirs in comments.values() for comment in theirs]
    phrases = PhraseReader(Reader(reader, blind=way == "stated"), sample, MIN_PEOPLE)
    items = [item for item, theirs in comments.items() if len(theirs) >= MIN_PEOPLE]
    found = phrases.read([("", comments[item]) for item in items])
    catalogue = float(reviews.rating[~used].mean())
    judged = []
    for item, theirs in zip(items, found, strict=True):
        others = np.flatnonzero(~used & (reviews.item == item))
        for phrase in theirs:
            with_it = [row for row in others if phrase.phrase in _phrases_of(reviews.texts[row])]
            judged.append(
                Judged(
                    str(reviews.catalogue.item_ids[item]),
                    phrase,
                    len(with_it),
                    float(reviews.rating[with_it].mean()) if with_it else np.nan,
                    float(reviews.rating[others].mean()) if len(others) else np.nan,
                    catalogue,
                    float(reviews.rating[used & (reviews.item == item)].mean()),
                )
            )
    return judged


class _Text:
    """The words of a comment, sentence by sentence, in which phrases are looked up."""

    def __init__(self, comment: str) -> None:
        self._lines = [f" {' '.join(sentence.words)} " for sentence in sentences_of(comment)]

    def __contains__(self, phrase: str) -> bool:
        return any(f" {phrase} " in line for line in self._lines)


@cache
def _phrases_of(comment: str) -> _Text:
    return _Text(comment)


def figures(judged: Sequence[Judged], least: int) -> dict[str, Any]:
    """Return counts and agreement, of all phrases and by side."""
    enough = [one for one in judged if one.people >= least]
    result: dict[str, Any] = {"phrases": len(judged), "judged": len(enough)}
    for name, praised in (("all", None), ("praised", True), ("criticised", False)):
        side = [one for one in enough if praised is None or one.phrase.praised == praised]
        result[name] = {
            "judged": len(side),
            "agreement": _share(one.agrees(one.phrase.praised, one.catalogue) for one in side),
            "agreement_within_item": _share(one.agrees(one.phrase.praised, one.item) for one in side),
        }
    result["agreement_of_mean_rating"] = _share(
        one.agrees(one.used > one.catalogue, one.catalogue) for one in enough
    )
    result["with_sentence"] = _share(one.phrase.sentence is not None for one in judged)
    return result


def _share(outcomes: Any) -> float | None:
    listed = list(outcomes)
    return float(np.mean(listed)) if listed else None


def measure(reviews: Reviews, settings: Settings, seeds: int, least: int) -> dict[str, Any]:
    """Return the figures of each way, over all halves."""
    identity = Recommender.build(settings.model, reviews.catalogue, PRODUCT_EVENT_TYPES).encoder
    rated = reviews.sequences(np.zeros(len(reviews.user), dtype=bool), comments=True)
    judged: dict[str, list[Judged]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        half = np.random.default_rng(seed).integers(2, size=len(reviews.keys))[reviews.user]
        for side in (0, 1):
            used = half == side
            reader = CommentReader(identity)
            fit_comment_reader(reader, rated.where(used), PRODUCT_EVENT_TYPES, max_comments=len(half))
            for way in WAYS:
                judged[way] += judge(reviews, reader, used, way)
    return {way: figures(judged[way], least) for way in WAYS}


def show(reviews: Reviews, settings: Settings, items: int) -> None:
    """Print what is found in all comments on the items with the most comments."""
    identity = Recommender.build(settings.model, reviews.catalogue, PRODUCT_EVENT_TYPES).encoder
    everything = np.ones(len(reviews.user), dtype=bool)
    reader = CommentReader(identity)
    fit_comment_reader(reader, reviews.sequences(~everything, comments=True), PRODUCT_EVENT_TYPES)
    judged = judge(reviews, reader, everything, WAYS[0])
    shown = list(dict.fromkeys(one.item_id for one in judged))
    print(f"{len(judged)} phrases of {len(shown)} items")
    for item in shown[:items]:
        print(item)
        for phrase in (one.phrase for one in judged if one.item_id == item):
            print(f"  {'+' if phrase.praised else '-'} {phrase.phrase} ({phrase.people}): {phrase.sentence}")


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the reviews")
    parser.add_argument("--seeds", type=int, default=2, help="number of ways to divide the people")
    parser.add_argument("--least", type=int, default=3, help="people of the other half who use a phrase")
    parser.add_argument("--show", type=int, default=0, help="print what is found for this many items")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    reviews, settings = Reviews(arguments.data), Settings()
    if arguments.show:
        show(reviews, settings, arguments.show)
    result = measure(reviews, settings, arguments.seeds, arguments.least)
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
