"""Tell what people praise about an item from what they criticise, phrase by phrase.

What a person thinks of what a phrase names is read from the person's sentences with the phrase, by the model,
and from the value that came with the comment, if one did. Both are compared with what is usual in the
catalogue, because most people give most items high values. Irony is not understood.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.model.phrases import Candidate, Sentence, Usage, find_phrases, sentences_of
from recsys.snapshot.scrub import scrub_comments

PER_SIDE = 5
"""Phrases kept of what is praised and of what is criticised."""
_EVIDENCE = 2.0
"""Standard errors by which opinions must differ from what is usual; chosen on the data of
`benchmarks.comment_phrases`."""
_STATED_WEIGHT = 2.0
"""Weight of a stated value against what is read from a sentence."""
_USUAL_SENTENCES = 1_000
"""Sentences of the sample whose opinions say what is usual."""
_SHORTEST, _LONGEST = 4, 30
"""Words of a sentence that is shown."""


class CommentReader(Protocol):
    """A recommender that predicts opinions from comments."""

    def comment_opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]] | None:
        """Return values (0 to 1) and sentiments (-1, 0, 1), each [texts]; None if not trained for it.

        A text that is not understood has the value nan and the sentiment 0.
        """
        ...


@dataclass(frozen=True)
class Comment:
    """One person's comment on an item.

    Attributes
    ----------
    stated
        Opinion that came with it, 0 (lowest) to 1; None: none did.
    """

    item_id: str
    person: str
    text: str
    stated: float | None = None


@dataclass(frozen=True)
class Phrase:
    """What enough people praise, or criticise.

    Attributes
    ----------
    people
        Who use the phrase with this opinion.
    sentence
        A sentence of one of them, if there is one in which enough people use each pair of words.
    """

    praised: bool
    phrase: str
    people: int
    sentence: str | None


class PhraseReader:
    """Reads comments on items against a sample of comments on all items.

    Parameters
    ----------
    sample
        Comments on some items; of a person on an item at most one.
    least_people
        Different people behind a phrase, and behind each pair of words in a sentence that is shown.

    Raises
    ------
    ValueError
        The reader cannot read comments.
    """

    def __init__(self, reader: CommentReader, sample: Sequence[Comment], least_people: int) -> None:
        self._reader = reader
        split = _split(sample)
        self._usage = Usage(
            [(c.item_id, c.person, s) for c, s in zip(sample, split, strict=True)], least_people
        )
        texts = sorted({sentence.text for sentences in split for sentence in sentences})
        chosen = np.random.default_rng(0).permutation(len(texts))[:_USUAL_SENTENCES]
        self._usual_read = _Usual(self._values([texts[number] for number in chosen]))
        self._usual_stated = _Usual(np.array([c.stated for c in sample if c.stated is not None]))

    def read(self, items: Sequence[tuple[str, Sequence[Comment]]]) -> list[list[Phrase]]:
        """Return the phrases of each item, those with the clearest opinion first.

        Parameters
        ----------
        items
            Title of each item and the comments on it, at most one of each person.
        """
        split = [_split(comments) for _, comments in items]
        found = [
            find_phrases(sentences, self._usage, title)
            for (title, _), sentences in zip(items, split, strict=True)
        ]
        texts = sorted(
            {
                sentences[person][number].text
                for sentences, candidates in zip(split, found, strict=True)
                for candidate in candidates
                for person, numbers in candidate.uses.items()
                for number in numbers
            }
        )
        values = dict(zip(texts, self._usual_read.compare(self._values(texts)).tolist(), strict=True))
        return [
            self._choose(comments, sentences, candidates, values)
            for (_, comments), sentences, candidates in zip(items, split, found, strict=True)
        ]

    def _values(self, texts: list[str]) -> NDArray[np.float64]:
        opinions = self._reader.comment_opinions(texts)
        if opinions is None:
            raise ValueError("this model cannot read comments")
        return opinions[0].astype(np.float64)

    def _choose(
        self,
        comments: Sequence[Comment],
        sentences: Sequence[Sequence[Sentence]],
        candidates: Sequence[Candidate],
        values: dict[str, float],
    ) -> list[Phrase]:
        judged: list[tuple[float, Phrase]] = []
        for candidate in candidates:
            opinions = {
                person: self._opinion(
                    [values[sentences[person][number].text] for number in numbers], comments[person].stated
                )
                for person, numbers in candidate.uses.items()
            }
            evidence = float(np.mean(list(opinions.values()))) * math.sqrt(len(opinions))
            sign = 1 if evidence > 0 else -1
            theirs = [person for person, opinion in opinions.items() if sign * opinion > 0]
            if abs(evidence) < _EVIDENCE or len(theirs) < self._usage.least_people:
                continue
            said = [sentences[person][number] for person in theirs for number in candidate.uses[person]]
            phrase = Phrase(sign > 0, candidate.phrase, len(theirs), self._typical(said, sign, values))
            judged.append((abs(evidence), phrase))
        judged.sort(key=lambda pair: (-pair[0], pair[1].phrase))
        return [
            phrase
            for praised in (True, False)
            for phrase in [phrase for _, phrase in judged if phrase.praised == praised][:PER_SIDE]
        ]

    def _opinion(self, read: list[float], stated: float | None) -> float:
        """Return how far a person's opinion is above what is usual, in standard deviations."""
        from_words = sum(read) / len(read)
        if stated is None:
            return from_words
        from_value = float(self._usual_stated.compare(np.array([stated]))[0])
        return (from_words + _STATED_WEIGHT * from_value) / math.hypot(1, _STATED_WEIGHT)

    def _typical(self, said: list[Sentence], sign: int, values: dict[str, float]) -> str | None:
        fit = [
            sentence
            for sentence in said
            if _SHORTEST <= len(sentence.words) <= _LONGEST
            and sign * values[sentence.text] > 0
            and self._usage.is_common(sentence)
        ]
        return max(fit, key=lambda s: (sign * values[s.text], s.text)).text if fit else None


class _Usual:
    """Mean and standard deviation of opinions; what was not understood (nan) is as usual."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        values = values[np.isfinite(values)]
        self._mean = float(values.mean()) if len(values) else 0.0
        self._deviation = max(float(values.std()), 0.01) if len(values) else 1.0

    def compare(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nan_to_num((values - self._mean) / self._deviation, nan=0.0)


def _split(comments: Sequence[Comment]) -> list[list[Sentence]]:
    scrubbed = scrub_comments(pa.array([comment.text for comment in comments], pa.string()))
    return [sentences_of(text) for text in scrubbed.to_pylist()]
