"""Convert MovieLens (real ratings with times) to files that `recsys ingest` loads.

Reads MovieLens-100K from the wheel `recbole`, which contains it as an example, or a folder with the files of
MovieLens-100K, MovieLens-1M or a later CSV release. The data is for research use without redistribution, so
none of it may be committed.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.catalogues.broken_events import broken_events
from recsys.catalogues.film_text import Film
from recsys.catalogues.movielens_files import Rating, read_folder, read_wheel
from recsys.catalogues.wheel import download_wheel
from recsys.errors import ConfigurationError

FRESH_SHARE = 0.1
FEEDBACK_COLUMNS = ("event_id", "user_id", "item_id", "event_type", "value", "comment", "occurred_at")
_WHEEL = "recbole==1.2.1"


@dataclass(frozen=True)
class MovieLens:
    """Films, and ratings sorted by time. Ratings of the same second keep the order of the source."""

    films: Sequence[Film]
    ratings: Sequence[Rating]


@dataclass(frozen=True)
class DemoFiles:
    """Files that the demo loads, in this order."""

    items: Path
    first_feedback: Path
    """The first nine tenths of the ratings by time."""
    broken_feedback: Path
    """Events that validation must quarantine."""
    fresh_feedback: Path
    """The last tenth of the ratings by time."""
    fresh_users: list[str]
    """Users with ratings in the last tenth."""
    description: str


def load_movielens(cache: Path, data: Path | None = None) -> MovieLens:
    """Read MovieLens.

    Parameters
    ----------
    cache
        Folder for the downloaded wheel.
    data
        Folder of MovieLens files to read instead of the wheel.

    Raises
    ------
    ConfigurationError
        The folder has no MovieLens files, or the wheel cannot be downloaded.
    """
    if data is not None:
        films, ratings = read_folder(data)
    else:
        films, ratings = read_wheel(download_wheel(_WHEEL, cache))
    if not films or not ratings:
        raise ConfigurationError(
            f"{data or _WHEEL} has no films or no ratings; choose another folder with `--data DIR`"
        )
    return MovieLens(films, sorted(ratings, key=lambda rating: rating.timestamp))


def write_items(films: Iterable[Film], path: Path) -> None:
    """Write films as JSONL for `recsys ingest items`."""
    _write_lines(path, (json.dumps(film.item(), ensure_ascii=False) for film in films))


def write_feedback(events: Iterable[dict[str, Any]], path: Path) -> None:
    """Write events as CSV for `recsys ingest feedback`."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FEEDBACK_COLUMNS)
        writer.writeheader()
        writer.writerows(events)
    unfinished.replace(path)


def split_by_time(
    ratings: Sequence[Rating], fresh_share: float = FRESH_SHARE
) -> tuple[Sequence[Rating], Sequence[Rating]]:
    """Split ratings into earlier ones and the latest `fresh_share` of them.

    The cut never separates ratings of the same second.
    """
    cut = min(round(len(ratings) * (1 - fresh_share)), len(ratings) - 1)
    while 0 < cut < len(ratings) and ratings[cut - 1].timestamp == ratings[cut].timestamp:
        cut -= 1
    return ratings[:cut], ratings[cut:]


def prepare_demo(folder: Path, data: Path | None = None) -> DemoFiles:
    """Write the demo's files to a folder. The same source always gives the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    source = load_movielens(folder, data)
    first, fresh = split_by_time(source.ratings)
    files = DemoFiles(
        items=folder / "items.jsonl",
        first_feedback=folder / "first_feedback.csv",
        broken_feedback=folder / "broken_feedback.csv",
        fresh_feedback=folder / "fresh_feedback.csv",
        fresh_users=sorted({rating.user_id for rating in fresh}),
        description=_describe(source, f"MovieLens from {data}" if data else "MovieLens-100K"),
    )
    write_items(source.films, files.items)
    write_feedback((rating.event() for rating in first), files.first_feedback)
    write_feedback(broken_events(first), files.broken_feedback)
    write_feedback((rating.event() for rating in fresh), files.fresh_feedback)
    return files


def _describe(source: MovieLens, name: str) -> str:
    users = len({rating.user_id for rating in source.ratings})
    return (
        f"{name}: {len(source.films):,} films, {len(source.ratings):,} ratings of {users:,} users, "
        f"{source.ratings[0].day} to {source.ratings[-1].day}"
    )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    unfinished.replace(path)
