"""Give items without any text the phrases in which people write about them, as text for the model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.model.phrases import Sentence, Usage, find_phrases, sentences_of
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.holdout import late_from
from recsys.snapshot.sequences import Sequences
from recsys.training.parallel import is_first
from recsys.training.split import LATE_SHARE
from recsys.warehouse.analytics import MIN_PEOPLE

_log = logging.getLogger(__name__)

_MAX_COMMENTS = 100_000
"""Comments that are read for texts; they take about a minute of a core."""
_COMMENTS_PER_ITEM = (200, 100, 50, 20)
"""Latest comments that are read of an item: the first number with which there are not too many in all. With
the last one, items with more comments come first."""
_SAMPLE = 20_000
"""Comments from which it is learned how people write in this catalogue."""
_CHARACTERS = 4_000
"""Of a longer comment, the beginning is read."""


def with_phrases_as_text(catalogue: Catalogue, parts: Sequence[Sequences]) -> Catalogue:
    """Return the catalogue with phrases from comments as the text of items that have no other text.

    `MIN_PEOPLE` different people at least use a phrase. Of a person's comments on an item the latest counts.
    Comments of the latest time, from which validation takes its cases, are not read. A catalogue whose items
    all have a text is returned at once. All processes of a training run find the same phrases.

    Parameters
    ----------
    parts
        Events with their comments; all events of a user are in one part.
    """
    without_text = np.array([not text for text in catalogue.texts], dtype=bool)
    if not without_text.any():
        return catalogue
    before = late_from(parts, LATE_SHARE) or 0
    counts = np.zeros(len(catalogue), dtype=np.int64)
    for part in parts:
        counts += np.bincount(part.item_index[_one_each(part, before)], minlength=len(catalogue))
    wanted, limit = _affordable(np.flatnonzero(without_text & (counts >= MIN_PEOPLE)), counts)
    if not len(wanted):
        return catalogue
    sample = _sample(catalogue, counts.clip(max=limit))
    comments = _Comments.empty()
    for part in parts:
        comments = comments.and_of(part, before, np.union1d(wanted, sample), limit)
    usage = Usage(
        [
            (catalogue.item_ids[item], str(person), sentences)
            for item in sample
            for person, sentences in comments.on(item)
        ],
        MIN_PEOPLE,
    )
    texts = list(catalogue.texts)
    for item in wanted:
        found = find_phrases([sentences for _, sentences in comments.on(item)], usage)
        texts[item] = ", ".join(candidate.phrase for candidate in found)
    if is_first():
        count = sum(bool(texts[item]) for item in wanted)
        _log.info("%d of %d items without text have phrases from comments", count, without_text.sum())
    return replace(catalogue, texts=texts)


@dataclass(frozen=True)
class _Comments:
    """The latest comments on some items, by item and in time order.

    `item`, `person` and `at` are [comments]; a person is a number, and has at most one comment on an item.
    """

    item: NDArray[np.int64]
    person: NDArray[np.int64]
    at: NDArray[np.int64]
    texts: pa.Array
    people: int = 0

    @classmethod
    def empty(cls) -> "_Comments":
        nothing = np.zeros(0, dtype=np.int64)
        return cls(nothing, nothing, nothing, pa.array([], pa.large_string()))

    def and_of(self, part: Sequences, before: int, items: NDArray[np.int64], limit: int) -> "_Comments":
        """Return these comments and those of other people, at most the latest `limit` of each item."""
        rows = _one_each(part, before)
        rows = rows[np.isin(part.item_index[rows], items)]
        item = np.concatenate([self.item, part.item_index[rows]])
        person = np.concatenate([self.person, self.people + part.event_users()[rows]])
        at = np.concatenate([self.at, part.occurred_at[rows]])
        texts = pa.concat_arrays([self.texts, part.comments.take(pa.array(part.comment[rows]))])
        order = np.lexsort((person, at, item))
        from_end = np.searchsorted(item[order], item[order], side="right") - 1 - np.arange(len(order))
        kept = order[from_end < limit]
        people = self.people + part.users
        return _Comments(item[kept], person[kept], at[kept], texts.take(pa.array(kept)), people)

    def on(self, item: int) -> list[tuple[int, list[Sentence]]]:
        """Return person and sentences of each comment on an item."""
        first, end = np.searchsorted(self.item, [item, item + 1])
        written = self.texts[first:end].to_pylist()
        return [
            (int(person), sentences_of(text[:_CHARACTERS]))
            for person, text in zip(self.person[first:end], written, strict=True)
        ]


def _one_each(part: Sequences, before: int) -> NDArray[np.int64]:
    """Return the positions of each person's latest comment on each item."""
    rows = np.flatnonzero((part.comment >= 0) & (part.occurred_at < before))[::-1]
    pairs = np.stack([part.event_users()[rows], part.item_index[rows]])
    return rows[np.unique(pairs, axis=1, return_index=True)[1]]


def _affordable(items: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the items to read, and how many comments on each at most."""
    order = items[np.argsort(-counts[items], kind="stable")]
    for limit in _COMMENTS_PER_ITEM:
        fits = np.cumsum(counts[order].clip(max=limit)) <= _MAX_COMMENTS
        if fits.all():
            break
    return order[fits], limit


def _sample(catalogue: Catalogue, counts: NDArray[np.int64]) -> list[int]:
    """Return items that are chosen by their hash, until their `counts` are enough."""
    chosen, comments = [], 0
    commented = np.flatnonzero(counts).tolist()
    for item in sorted(commented, key=lambda item: sha256(str(catalogue.item_ids[item]).encode()).digest()):
        chosen.append(item)
        comments += int(counts[item])
        if comments >= _SAMPLE:
            break
    return chosen
