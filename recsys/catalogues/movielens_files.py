"""Read the file layouts of the MovieLens releases."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.catalogues.film_text import Film
from recsys.errors import ConfigurationError

_WHEEL_FOLDER = "recbole/dataset_example/ml-100k/"
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller",
    "War", "Western",
)  # fmt: skip


@dataclass(frozen=True)
class Rating:
    """A user's rating of a film."""

    user_id: str
    item_id: str
    value: float
    timestamp: int
    """Unix seconds."""

    @property
    def day(self) -> str:
        """Date in UTC."""
        return datetime.fromtimestamp(self.timestamp, UTC).date().isoformat()

    def event(self) -> dict[str, Any]:
        """Return a row for `recsys ingest feedback`; the same rating always has the same event id."""
        return {
            "event_id": f"ml-{self.user_id}-{self.item_id}-{self.timestamp}",
            "user_id": self.user_id,
            "item_id": self.item_id,
            "event_type": "rating",
            "value": self.value,
            "occurred_at": self.timestamp,
        }


Contents = tuple[list[Film], list[Rating]]
ReadText = Callable[[str], str]
"""Returns the text of a file by its name."""


def read_wheel(wheel: Path) -> Contents:
    """Read MovieLens-100K from the `recbole` wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return _read_atomic(lambda name: archive.read(_WHEEL_FOLDER + name).decode())


def read_folder(folder: Path) -> Contents:
    """Read a folder in any known layout; raise ConfigurationError if it has none."""

    def text(name: str) -> str:
        content = (folder / name).read_bytes()
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content.decode("latin-1")  # older releases

    for (ratings, films), read in _LAYOUTS.items():
        if (folder / ratings).is_file() and (folder / films).is_file():
            try:
                return read(text)
            except (ValueError, KeyError, IndexError) as error:
                raise ConfigurationError(
                    f"{folder}: {ratings} or {films} differs from the published MovieLens files: {error!r}; "
                    "download them again"
                ) from error
    layouts = "; ".join(" and ".join(names) for names in _LAYOUTS)
    raise ConfigurationError(f"{folder} has no MovieLens files; it needs {layouts}")


def _read_atomic(text: ReadText) -> Contents:
    films = [
        Film.parse(item_id, title, genres.split(" "), year)
        for item_id, title, year, genres in _rows(text("ml-100k.item"), "\t")
    ]
    return films, [
        Rating(user, item, float(value), int(float(time)))
        for user, item, value, time in _rows(text("ml-100k.inter"), "\t")
    ]


def _read_100k(text: ReadText) -> Contents:
    films = []
    for line in text("u.item").splitlines():
        item_id, title, _released, _video, _url, *flags = line.split("|")
        genres = [genre for genre, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1"]
        films.append(Film.parse(item_id, title, genres))
    ratings = (line.split("\t") for line in text("u.data").splitlines())
    return films, [Rating(user, item, float(value), int(time)) for user, item, value, time in ratings]


def _read_1m(text: ReadText) -> Contents:
    films = (line.split("::") for line in text("movies.dat").splitlines())
    ratings = (line.split("::") for line in text("ratings.dat").splitlines())
    return (
        [Film.parse(item_id, title, genres.split("|")) for item_id, title, genres in films],
        [Rating(user, item, float(value), int(time)) for user, item, value, time in ratings],
    )


def _read_csv(text: ReadText) -> Contents:
    films = csv.DictReader(io.StringIO(text("movies.csv")))
    ratings = csv.DictReader(io.StringIO(text("ratings.csv")))
    return (
        [Film.parse(row["movieId"], row["title"], row["genres"].split("|")) for row in films],
        [
            Rating(row["userId"], row["movieId"], float(row["rating"]), int(row["timestamp"]))
            for row in ratings
        ],
    )


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    lines = iter(text.splitlines())
    next(lines)
    return (line.split(delimiter) for line in lines if line)


_LAYOUTS: dict[tuple[str, str], Callable[[ReadText], Contents]] = {
    ("ml-100k.inter", "ml-100k.item"): _read_atomic,
    ("u.data", "u.item"): _read_100k,
    ("ratings.csv", "movies.csv"): _read_csv,
    ("ratings.dat", "movies.dat"): _read_1m,
}
