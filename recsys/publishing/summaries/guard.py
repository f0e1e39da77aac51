"""Refuse a generated text that says what nobody told the model, or that is no plain text in its language.

What the guard knows of a language, it takes from the texts of the table `languages`: its scripts, whether it
writes all nouns with a capital, and how its letters follow each other. It does not understand what a text
says: whether praise is praise, or a sentence is true of the titles that it names.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from recsys.model.reasons import ReasonTexts
from recsys.publishing.summaries.given import Given

MAX_CHARACTERS = 400
"""Of a text."""
_COPIED = 4
"""Words in a row, none of which the language's own texts have, that may not come from a part of a title."""
_COPIED_FROM_WITHIN = 2
"""The same, none of them an opener, where the part does not begin the title: orders stand behind names."""
_PLACE = "\ufffc"
"""Stands where a given text was."""
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_FILLED_IN = re.compile(r"\{\w+\}")
_LINK = re.compile(r"://|\bwww\.|@|[^\W\d_]\.[^\W\d_]{2,}|\w\.\w+/", re.IGNORECASE)
_MARKUP = re.compile(r"[\[\]{}|\\`*#_~^=]|&#?\w+;")
_SAID_AGAIN = re.compile(f"([^{_PLACE}]{{3,60}}?)(?:[^\\w{_PLACE}]*\\1){{2,}}", re.IGNORECASE)
"""The same words three times in a row: small models may not find an end."""
_NAMED_AGAIN = re.compile(f"{_PLACE}(?:[^\\w{_PLACE}]*{_PLACE}){{2,}}")
"""The same, where the places are those of one given text."""
_QUOTED = re.compile(r"[\"“„]([^\"“”„]+)[\"“”]|«([^»]+)»|《([^》]+)》|「([^」]+)」")
_ENDS_A_SENTENCE = re.compile(r"[.!?](?:\s|\Z)|[\u3002\uff01\uff1f]")
_BEGINS_A_SENTENCE = re.compile(r"(?:^|[.!?:;\u2026\u2013\u2014][\"“„(«]?\s|[\"“„(«])\Z")


class Guard:
    """Reads texts in some languages.

    Parameters
    ----------
    spoken
        The texts of all languages of the warehouse.
    """

    def __init__(self, spoken: Sequence[ReasonTexts]) -> None:
        self._languages = {texts.language: _Language(texts) for texts in spoken}

    def refusal(self, text: str, given: Given) -> str | None:
        """Return why a text may not be shown, in a few words; None: it may be."""
        if not text.strip():
            return "empty"
        if len(text) > MAX_CHARACTERS:
            return "too long"
        if _LINK.search(text):
            return "link"
        told = given.strings()
        sentences = [sentence.strip().casefold() for sentence in _ENDS_A_SENTENCE.split(_joined(text, told))]
        if len(set(filter(None, sentences))) < len(list(filter(None, sentences))):
            return "repeats itself"
        bare = _without(text, told)
        if any(c in "<>" or (unicodedata.category(c)[0] == "C") for c in text) or _MARKUP.search(bare):
            return "markup"
        if _SAID_AGAIN.search(bare) or any(_NAMED_AGAIN.search(_without(text, [one])) for one in told):
            return "repeats itself"
        language = self._languages[given.language]
        if not {_script(c) for c in bare if c.isalpha()} <= language.scripts:
            return "script"
        words = [_words(one) for one in told]
        quotes = [_words(next(filter(None, found.groups()))) for found in _QUOTED.finditer(text)]
        for run in (*quotes, *_names(bare, language)):
            is_number = all(word[0].isdigit() for word in run)
            if not _is_told(run, words):
                return "unknown number" if is_number else "unknown name"
            if not is_number and not _begins(run, words, language):
                return "part of a title"
        if _is_copied(bare, words, language):
            return "part of a title"
        if all(_without(text, [name]) == text for name in given.named):
            return "names nothing"
        return None if self._may_be(bare, given.language) else "language"

    def _may_be(self, text: str, language: str) -> bool:
        """Return whether no other language that is there is more likely; en-GB is no other than en."""
        grams = _grams(text)
        base = language.partition("-")[0]
        likelihoods = {name: own.likelihood(grams) for name, own in self._languages.items()}
        own = max(value for name, value in likelihoods.items() if name.partition("-")[0] == base)
        return own >= max(likelihoods.values())


class _Language:
    """What the texts of a language tell about it."""

    def __init__(self, texts: ReasonTexts) -> None:
        openers = texts.texts["openers"]
        said = [
            _FILLED_IN.sub(" ", text)
            for name, part in texts.texts.items()
            for text in (part.values() if isinstance(part, Mapping) else [part])
            if name not in ("openers", "separator")
        ]
        self.openers = set(_words(openers))
        self.words = {word for text in said for word in _words(text)}
        self.scripts = {_script(c) for text in said for c in text if c.isalpha()}
        later = [word for text in said for word in _WORD.findall(text.strip())[1:]]
        self.capitalises_nouns = any(word[0].isupper() for word in later)
        self._grams = Counter(gram for text in (*said, openers) for gram in _grams(text))
        self._total = self._grams.total()

    def likelihood(self, grams: Sequence[str]) -> float:
        """Return the log likelihood of runs of three letters; those never seen count a tenth of one."""
        return sum(math.log((self._grams[gram] + 0.1) / (self._total + 1_000)) for gram in grams)


def _grams(text: str) -> list[str]:
    return [
        padded[place : place + 3]
        for word in _words(text)
        for padded in [f" {word} "]
        for place in range(len(padded) - 2)
    ]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in _WORD.findall(text))


def _without(text: str, told: Sequence[str]) -> str:
    """Return a text with a placeholder for each given text in it, whatever its case."""
    for one in sorted(filter(None, told), key=len, reverse=True):
        text = re.sub(re.escape(one), _replaced, text, flags=re.IGNORECASE)
    return text


def _joined(text: str, told: Sequence[str]) -> str:
    """Return a text whose sentences do not end within a given text, such as the title "Tora! Tora! Tora!"."""
    for one in sorted(told, key=len, reverse=True):
        joined = _ENDS_A_SENTENCE.sub(" ", one[:-1]) + one[-1:]
        if joined != one:
            text = re.sub(re.escape(one), joined.replace("\\", r"\\"), text, flags=re.IGNORECASE)
    return text


def _replaced(found: re.Match[str]) -> str:
    text, (start, end) = found.string, found.span()
    edges = (text[max(start - 1, 0) : start + 1], text[end - 1 : end + 1])
    # Words of scripts with cases, and numbers, stand alone; Chinese ones do not.
    is_part = any(len(edge) == 2 and all(map(_is_of_a_word, edge)) for edge in edges)
    return found[0] if is_part else _PLACE


def _is_of_a_word(character: str) -> bool:
    return character.isdigit() or character.lower() != character.upper()


def _names(text: str, language: _Language) -> Iterator[tuple[str, ...]]:
    """Yield the runs of words that name something: those with capitals or digits, next to each other."""
    run: list[str] = []
    end = 0
    for found in [*_WORD.finditer(text), None]:
        if (
            found is not None
            and run
            and text[end : found.start()].strip(" -\u2019'") == ""
            and _is_name(found[0])
        ):
            run.append(found[0].casefold())
            end = found.end()
            continue
        if run and not (language.capitalises_nouns and len(run) == 1 and not run[0][0].isdigit()):
            yield tuple(run)
        run = []
        if found is None or not _is_name(found[0]):
            continue
        end = found.end()
        begins = _BEGINS_A_SENTENCE.search(text[: found.start()])
        if not (begins and found[0].casefold() in language.openers):
            run = [found[0].casefold()]


def _is_name(word: str) -> bool:
    return any(c.isupper() or c.isdigit() for c in word)


def _is_told(wanted: tuple[str, ...], told: Sequence[tuple[str, ...]]) -> bool:
    """Return whether words stand next to each other in one of the given texts."""
    n = len(wanted)
    return any(wanted == one[place : place + n] for one in told for place in range(len(one) - n + 1))


def _begins(wanted: tuple[str, ...], told: Sequence[tuple[str, ...]], language: _Language) -> bool:
    """Return whether one of the given texts begins with these words, perhaps after an article."""
    n = len(wanted)
    return any(
        wanted == one[:n] or (one[0] in language.openers and wanted == one[1 : n + 1]) for one in told if one
    )


def _is_copied(text: str, told: Sequence[tuple[str, ...]], language: _Language) -> bool:
    """Return whether a text repeats a part of a given text: what is told may hold instructions."""
    for part in text.split(_PLACE):
        words = _words(part)
        for place in range(len(words)):
            run = words[place : place + _COPIED]
            if len(run) == _COPIED and language.words.isdisjoint(run) and _is_told(run, told):
                return True
            pair = run[:_COPIED_FROM_WITHIN]
            if (
                len(pair) == _COPIED_FROM_WITHIN
                and language.openers.isdisjoint(pair)
                and _is_told(pair, told)
                and not _begins(pair, told, language)
            ):
                return True
    return False


def _script(character: str) -> str:
    return unicodedata.name(character, "unknown").split()[0]
