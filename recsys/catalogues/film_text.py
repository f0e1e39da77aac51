"""Convert titles, years and genres of films to item text."""

import re
from dataclasses import dataclass
from typing import Any

_YEAR = re.compile(r"\s*\((\d{4})(?:-\d{0,4})?\)\s*$")
_ARTICLES = "The|An?|Das|Der|Die|El|Les?|La|Las|Los|L'|Il|I|Gli|Lo|Une?|Un|Den|Det|De|Het"
# "Matrix, The" and "City of Lost Children, The (Cité des enfants perdus, La)".
_TRAILING_ARTICLE = re.compile(rf"^(?P<name>.+), (?P<article>{_ARTICLES})$")
_OTHER_TITLE = re.compile(r"^(?P<title>.+) \((?P<other>[^()]+)\)$")
_NO_GENRE = frozenset({"unknown", "(no genres listed)"})


@dataclass(frozen=True)
class Film:
    """A film of a MovieLens catalogue."""

    item_id: str
    title: str
    year: int | None
    genres: tuple[str, ...]

    @classmethod
    def parse(cls, item_id: str, title: str, genres: list[str], year: str = "") -> "Film":
        """Build a film from a title as MovieLens writes it, such as `Matrix, The (1999)`."""
        found = _YEAR.search(title)
        if found:
            title = title[: found.start()]
        number = found.group(1) if found else year
        return cls(
            item_id,
            natural_title(title.strip()),
            int(number) if number.isdigit() else None,
            tuple(genre for genre in genres if genre and genre not in _NO_GENRE),
        )

    def item(self) -> dict[str, Any]:
        """Return a row for `recsys ingest items`."""
        attributes: dict[str, Any] = {}
        if self.genres:
            attributes["genres"] = list(self.genres)
        if self.year is not None:
            attributes["year"] = self.year
        return {
            "item_id": self.item_id,
            "title": self.title,
            "description": self._description(),
            "attributes": attributes,
        }

    def _description(self) -> str:
        kinds = [genre if genre in ("IMAX", "Sci-Fi") else genre.lower() for genre in self.genres]
        listed = " and ".join([", ".join(kinds[:-1]), kinds[-1]] if len(kinds) > 1 else kinds)
        words = [listed, "film"] if listed else ["film"]
        article = "An" if words[0][0] in "aeioIu" else "A"
        when = f" from {self.year}" if self.year is not None else ""
        return f"{article} {' '.join(words)}{when}."


def natural_title(title: str) -> str:
    """Move a trailing article to the front: `Matrix, The` becomes `The Matrix`."""
    if two := _OTHER_TITLE.match(title):
        return f"{natural_title(two['title'])} ({natural_title(two['other'])})"
    match = _TRAILING_ARTICLE.match(title)
    if not match:
        return title
    space = "" if match["article"].endswith("'") else " "
    return f"{match['article']}{space}{match['name']}"
