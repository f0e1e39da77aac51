"""Load real feedback for benchmarks: MovieLens in three sizes, or any folder of items and feedback.

In MovieLens each rating counts as an interaction, whatever its value, as in published results. A high
rating is also a like. A folder is read as in production, where dislikes and low ratings are not targets.
"""

import csv
import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.own_catalogue import read_own_catalogue
from benchmarks.shown_lists import ShownLists
from recsys.catalogues.film_text import Film
from recsys.catalogues.movielens import load_movielens
from recsys.errors import ConfigurationError
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.warehouse.value_checks import TimeUnit

NAMES = ("ml-100k", "ml-1m", "ml-latest-small")
_RATING = {"event_type": "rating", "explicit": True, "weight": 1, "polarity": 0, "min_value": 0.5}
_INTERACTIONS = EventTypes.from_records([_RATING | {"max_value": 5, "positive_from": 4}])
PRODUCT_EVENT_TYPES = EventTypes.from_records(
    [
        _RATING | {"max_value": 5, "negative_to": 2, "positive_from": 4},
        {"event_type": "like", "explicit": True, "weight": 1, "polarity": 1},
        {"event_type": "dislike", "explicit": True, "weight": 0, "polarity": -1},
        {"event_type": "comment", "explicit": True, "weight": 0.5, "polarity": 0},
        {"event_type": "view", "explicit": False, "weight": 0.3, "polarity": 0},
        {"event_type": "click", "explicit": False, "weight": 0.5, "polarity": 0},
        {"event_type": "purchase", "explicit": False, "weight": 1, "polarity": 1},
        {"event_type": "share", "explicit": False, "weight": 1, "polarity": 1},
        {"event_type": "dwell", "explicit": False, "weight": 0.3, "polarity": 0, "min_value": 0}
        | {"max_value": 86_400, "negative_to": 3, "positive_from": 30},
    ]
)


@dataclass(frozen=True)
class Dataset:
    """A catalogue and its feedback.

    Attributes
    ----------
    sequences
        Events of each user in time order; events with the same time keep their order in the log.
    has_times
        Whether times are known. Otherwise only the order is, and the data cannot be split by time.
    shown
        Lists that users were shown, if the data has them.
    is_defined
        Whether somebody said what the event types mean.
    """

    name: str
    catalogue: Catalogue
    event_types: EventTypes
    sequences: Sequences
    has_times: bool = True
    shown: ShownLists | None = None
    is_defined: bool = True


def load_dataset(
    name: str,
    folder: Path | None,
    cache: Path,
    *,
    low_ratings_are_negative: bool = False,
    assume_timezone: str | None = None,
    time_unit: TimeUnit = "seconds",
    recipe: str | None = None,
    definitions: Path | None = None,
) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    name
        One of `NAMES`, or any other name for a folder that `benchmarks.own_catalogue` reads.
    folder
        Folder of the files. Only ml-100k needs none: it comes from a package that is kept in `cache`.
    low_ratings_are_negative
        Read MovieLens ratings as in production, not as in published results.
    assume_timezone, time_unit, recipe, definitions
        How to read a folder of own files, see `read_own_catalogue`.

    Raises
    ------
    RecsysError
        The folder or its files are missing, or cannot be read.
    """
    types = PRODUCT_EVENT_TYPES if low_ratings_are_negative else _INTERACTIONS
    if name == "ml-100k":
        return _movielens(name, cache, folder, types)
    if folder is None:
        raise ConfigurationError(f"{name} cannot be downloaded: give its folder with --data FOLDER")
    if name == "ml-1m" and (folder / "sequences.txt.gz").is_file():
        return _ordered(name, folder)
    if name in NAMES:
        return _movielens(name, cache, folder, types)
    own = read_own_catalogue(
        folder, assume_timezone=assume_timezone, time_unit=time_unit, recipe=recipe,
        definitions=definitions,
    )  # fmt: skip
    print("\n".join(own.notes))
    return Dataset(
        folder.resolve().name, own.catalogue, own.event_types, own.sequences, own.has_times, own.shown,
        own.is_defined,
    )  # fmt: skip


def _movielens(name: str, cache: Path, folder: Path | None, types: EventTypes) -> Dataset:
    cache.mkdir(parents=True, exist_ok=True)
    source = load_movielens(cache, folder)
    return _build(
        name,
        _films(source.films),
        types,
        [
            (rating.user_id, rating.item_id, "rating", rating.value, rating.timestamp * 1_000_000)
            for rating in source.ratings
        ],
    )


def _ordered(name: str, folder: Path) -> Dataset:
    """Read MovieLens-1M from lines of a user id and film ids in order; events are an hour apart."""
    with (folder / "movies.csv").open(encoding="utf-8", newline="") as file:
        films = [
            Film.parse(row["movie_id"], row["title"], row["genres"].split("|"))
            for row in csv.DictReader(file)
        ]
    events: list[_Event] = []
    with gzip.open(folder / "sequences.txt.gz", "rt") as lines:
        for line in lines:
            user, *items = line.split()
            events += [(user, item, "rating", np.nan, n * 3_600_000_000) for n, item in enumerate(items)]
    return _build(name, _films(films), _INTERACTIONS, events, has_times=False)


_Event = tuple[str, str, str, float, int]
_Item = tuple[str, str, str, dict[str, Any]]


def _build(
    name: str,
    items: Iterable[_Item],
    event_types: EventTypes,
    events: Sequence[_Event],
    *,
    has_times: bool = True,
) -> Dataset:
    catalogue = Catalogue.build(*map(list, zip(*items, strict=True)))
    if not events:
        raise ConfigurationError(f"{name} holds no feedback")
    user_ids, item_ids, kinds, values, times = zip(*events, strict=True)
    users, user_index = np.unique(np.asarray(user_ids), return_inverse=True)
    sequences = Sequences.build(
        user_keys=users.astype(object),
        user_index=user_index,
        item_index=catalogue.lookup(item_ids),
        event_type=event_types.lookup(kinds),
        value=np.asarray(values),
        occurred_at=np.asarray(times, dtype=np.int64),
        feedback_id=np.arange(len(events)),
        event_types=event_types,
    )
    return Dataset(name, catalogue, event_types, sequences, has_times)


def _films(films: Iterable[Film]) -> list[_Item]:
    rows = [film.item() for film in films]
    return [(row["item_id"], row["title"], row["description"], row["attributes"]) for row in rows]
