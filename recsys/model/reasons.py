"""Texts of reasons in one language, with what they are about filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from recsys.warehouse import languages

_NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, eq=False)
class ReasonTexts:
    """Texts as the table `languages` has them.

    Attributes
    ----------
    language
        Tag of BCP 47 in lower case.
    texts
        By what they say; `did` holds those of event types.
    """

    language: str
    texts: Mapping[str, Any]

    def say(self, name: str, **parts: str) -> str:
        """Return a text; what is filled in is not read again, so that a title may have braces."""
        return _fill(self.texts[name], parts)

    def did(self, event_type: str, *, highly: bool, title: str) -> str:
        """Say what a user did to an item; a rating is high or not."""
        done = self.texts["did"]
        name = "low rating" if event_type == "rating" and not highly else event_type
        return _fill(done.get(name, done["other"]), {"title": title})


def _fill(text: str, parts: Mapping[str, str]) -> str:
    return _template(text) % parts


@lru_cache(maxsize=1_024)  # a publication fills few texts millions of times
def _template(text: str) -> str:
    """Return a text for Python's operator `%`, which fills in faster than we do."""
    return _NAME.sub(r"%(\1)s", text.replace("%", "%%"))


@cache
def packaged_texts(language: str = languages.PACKAGED[0]) -> ReasonTexts:
    """Return the texts of a language as the package brings them."""
    return ReasonTexts(language, languages.packaged_texts(language))
