"""Find the phrases in which people write about an item, without a word list of any language.

Which words say nothing of an item is learned from the comments themselves: they are frequent and occur with
all items alike. A phrase counts when enough different people use it, and it is kept when they use it more
often about this item than people do elsewhere. Words are found by the spaces between them, so languages that
are written without spaces are hardly read.
"""

import html
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

MAX_WORDS = 3
"""Length of a phrase."""
_SENTENCE_CHARACTERS = 300
"""Longer sentences are cut: they are texts without punctuation."""
_PHRASES_PER_ITEM = 20
_FREQUENT = 0.03
"""Share of comments from which on a word may say nothing of an item."""
_EVERYWHERE = 0.25
"""Share of comments from which on a word says nothing of any item."""
_NEVER_AT_THE_EDGE = 0.4
"""Share of comments from which on no phrase begins or ends with a word."""
_EVEN = 1.7
"""Variance between items of the share of comments with a word, in multiples of what chance gives, below which
a frequent word says nothing of an item. For articles and pronouns it is 1.2 to 1.6, because comments differ
in length."""
_NAMES_THE_ITEM = 0.5
"""Share of an item's people from which on a single word is what the item is, not what they think of it."""
_CONTRAST = 2.5
"""Standard errors by which a phrase is more frequent with an item than elsewhere."""
_KEPT_BY_A_LONGER_PHRASE = 0.5
"""Share of a phrase's people who must use a longer one, for the longer one to take its place."""
_STEM = 4
"""Words that begin with the same letters, this many at least and all but three, are forms of one word."""

_MARKUP = re.compile(r"<[^<>]{0,300}>|[\x00-\x08\x0b-\x1f\x7f]")
_SENTENCE_END = re.compile("(?<=[.!?\u2026])[\"'\u2019\u201d)\\]]*\\s+|(?<=[\u3002\uff01\uff1f])|[\r\n]+")
_WORD = re.compile("[^\\W_]+(?:['\u2019-][^\\W_]+)*")
_UNPRINTABLE = re.compile(r"\[(?:link|e-mail|number)\]|[@#{}<>|\\]|://")
"""Sentences with what scrubbing removed, names of accounts and code are not read."""


@dataclass(frozen=True)
class Sentence:
    """A sentence as it was written, and its words in lower case."""

    text: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A phrase that enough people use about an item.

    Attributes
    ----------
    phrase
        Its words in lower case, with spaces between them.
    uses
        The sentences with the phrase, by person: numbers of sentences in that person's comment.
    """

    phrase: str
    uses: dict[int, list[int]]


def sentences_of(comment: str) -> list[Sentence]:
    """Split a scrubbed comment into sentences; those without words or with markup are left out."""
    text = html.unescape(_MARKUP.sub(" ", comment))
    found = []
    for part in _SENTENCE_END.split(text):
        sentence = " ".join(_MARKUP.sub(" ", part).split())[:_SENTENCE_CHARACTERS]
        words = tuple(word.replace("\u2019", "'").lower() for word in _WORD.findall(sentence))
        if words and not _UNPRINTABLE.search(sentence):
            found.append(Sentence(sentence, words))
    return found


class Usage:
    """How people write in the whole catalogue, learned from a sample of comments.

    Parameters
    ----------
    comments
        Item, person and sentences of each comment; of a person on an item at most one.
    least_people
        Different people who must use a phrase before it is known.
    """

    def __init__(self, comments: Sequence[tuple[str, str, Sequence[Sentence]]], least_people: int) -> None:
        self.least_people = least_people
        self.comments = len(comments)
        self._comments_with: dict[str, int] = {}
        written: dict[str, list[Sequence[Sentence]]] = defaultdict(list)
        for _, person, sentences in comments:
            written[person].append(sentences)
        # A longer phrase is not more frequent than its parts, so that each round counts few phrases.
        for length in range(1, MAX_WORDS + 1):
            in_comments: Counter[str] = Counter()
            people: Counter[str] = Counter()
            for theirs in written.values():
                phrases = [set(self._of(sentences, length)) for sentences in theirs]
                people.update(set().union(*phrases))
                for used in phrases:
                    in_comments.update(used)
            self._comments_with |= {p: in_comments[p] for p, n in people.items() if n >= least_people}
        self.empty, self.edges = self._words_that_say_nothing(comments)

    def share_of(self, phrase: str) -> float:
        """Return the share of comments with a phrase; next to nothing if fewer than `least_people` use it."""
        return (self._comments_with.get(phrase, 0) + 0.5) / (self.comments + 1)

    def is_common(self, sentence: Sentence) -> bool:
        """Return whether enough people use each pair of neighbouring words of a sentence, and each word."""
        words = sentence.words
        pairs = (" ".join(pair) for pair in pairwise(words))
        return all(phrase in self._comments_with for phrase in (*words, *pairs))

    def _of(self, sentences: Sequence[Sentence], length: int) -> Iterator[str]:
        known = self._comments_with
        for sentence in sentences:
            for words in _runs(sentence.words, length):
                if length == 1 or (" ".join(words[1:]) in known and " ".join(words[:-1]) in known):
                    yield " ".join(words)

    def _words_that_say_nothing(
        self, comments: Sequence[tuple[str, str, Sequence[Sentence]]]
    ) -> tuple[set[str], set[str]]:
        items = {item: number for number, item in enumerate(sorted({item for item, _, _ in comments}))}
        commented = np.bincount([items[item] for item, _, _ in comments], minlength=len(items))
        least = _FREQUENT * len(comments)
        frequent = {p for p, n in self._comments_with.items() if " " not in p and n >= least}
        used_by: dict[str, list[int]] = {word: [] for word in frequent}
        for item, _, sentences in comments:
            for word in {word for sentence in sentences for word in sentence.words} & frequent:
                used_by[word].append(items[item])
        large = commented >= self.least_people
        empty, edges = set(), set()
        for word, used in used_by.items():
            share = len(used) / len(comments)
            expected = commented * share
            spread = (np.bincount(used, minlength=len(items)) - expected) ** 2 / (
                expected * (1 - share) + 1e-9
            )
            if share > _EVERYWHERE or (large.any() and spread[large].mean() < _EVEN):
                empty.add(word)
            if share > _NEVER_AT_THE_EDGE:
                edges.add(word)
        return empty, edges


def find_phrases(comments: Sequence[Sequence[Sentence]], usage: Usage, title: str = "") -> list[Candidate]:
    """Return the phrases that people use about an item more than people do elsewhere, most striking first.

    Parameters
    ----------
    comments
        Sentences of each comment on the item, each of a different person.
    title
        The item's title; phrases of its words only are left out.
    """
    uses: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for person, sentences in enumerate(comments):
        for number, sentence in enumerate(sentences):
            for phrase in set(_phrases(sentence.words, usage.edges)):
                uses[phrase][person].append(number)
    uses = {phrase: by for phrase, by in uses.items() if len(by) >= usage.least_people}
    named = set(_WORD.findall(title.lower()))
    contrast = {
        phrase: _contrast(len(by), len(comments), usage.share_of(phrase))
        for phrase, by in uses.items()
        if _says_something(phrase, usage.empty, named)
        and (" " in phrase or len(by) <= _NAMES_THE_ITEM * len(comments))
    }
    found: list[Candidate] = []
    taken: list[str] = []
    for phrase in sorted(contrast, key=lambda phrase: (-contrast[phrase], phrase)):
        if contrast[phrase] < _CONTRAST or len(found) == _PHRASES_PER_ITEM:
            break
        whole = _longest(phrase, uses)
        telling = [word for word in whole.split() if word not in usage.empty]
        if any(_are_forms_of_one(word, other) for word in telling for other in taken):
            continue
        taken += telling
        found.append(Candidate(whole, {person: list(numbers) for person, numbers in uses[whole].items()}))
    return found


def _runs(words: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (words[start : start + length] for start in range(len(words) - length + 1))


def _phrases(words: tuple[str, ...], edges: set[str]) -> Iterator[str]:
    for length in range(1, MAX_WORDS + 1):
        for run in _runs(words, length):
            if run[0] not in edges and run[-1] not in edges:
                yield " ".join(run)


def _says_something(phrase: str, empty: set[str], named: set[str]) -> bool:
    words = phrase.split()
    if words[0] in empty or words[-1] in empty or named.issuperset(words):
        return False
    return all(len(word) > 1 and not word.isdigit() for word in words)


def _contrast(people: int, of: int, usual: float) -> float:
    """Return by how many standard errors a share of people is above the usual share."""
    return (people - of * usual) / math.sqrt(of * usual * (1 - usual) + 0.5)


def _longest(phrase: str, uses: dict[str, dict[int, list[int]]]) -> str:
    """Return the longest phrase around another that enough of its people use: "easy to use" for "easy"."""
    enough = _KEPT_BY_A_LONGER_PHRASE * len(uses[phrase])
    whole = phrase
    for _ in range(MAX_WORDS):
        around = [
            other
            for other, by in uses.items()
            if len(by) >= enough and f" {whole} " in f" {other} " and other != whole
        ]
        if not around:
            break
        whole = max(around, key=lambda other: (len(uses[other]), other))
    return whole


def _are_forms_of_one(word: str, other: str) -> bool:
    shared = 0
    for one, two in zip(word, other, strict=False):
        if one != two:
            break
        shared += 1
    return word == other or (shared >= _STEM and max(len(word), len(other)) - shared <= 3)
