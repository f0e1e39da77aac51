"""Options of the benchmarks that name a data set and what is asked on it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.cases import Task
from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.protocols import REPEATS, SPLITS, make_task
from recsys.warehouse.value_checks import TimeUnit


def add_task_options(parser: argparse.ArgumentParser, *, split: str = "leave-one-out") -> None:
    """Add the options that `load_task` reads; `split` is the default."""
    parser.add_argument("--dataset", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder of the data set, or of own files")
    parser.add_argument("--recipe", help="what event types mean: shop, newsroom, video or music")
    parser.add_argument("--event-types", type=Path, help="file of event types, instead of the one in --data")
    parser.add_argument("--assume-timezone", help="time zone of times that have none, such as Europe/Paris")
    parser.add_argument("--time-unit", choices=get_args(TimeUnit), default="seconds", help="of numeric times")
    parser.add_argument("--split", choices=SPLITS, default=split)
    parser.add_argument(
        "--targets", type=lambda text: tuple(text.split(",")),
        help="event types to predict, such as like,bookmark; the others are steps. Default: the outcomes",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", choices=REPEATS, default="auto",
        help="whether what a user had may be recommended again; auto: as event types say, if they are "
        "defined, and otherwise if a tenth of the wanted events are repeats",
    )  # fmt: skip
    parser.add_argument(
        "--stream", action="store_true",
        help="let simple rivals see all feedback before each case, not only before the test period",
    )  # fmt: skip
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")


def parse_task_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse arguments, and end with an error if they name no data set."""
    options = parser.parse_args(arguments)
    if not options.dataset and not options.data:
        parser.error("give --dataset or --data")
    return options


def load_task(options: argparse.Namespace) -> tuple[Dataset, Task]:
    """Read the data set and make its cases.

    Raises
    ------
    RecsysError
        The data cannot be read, or there are no cases.
    """
    dataset = read_dataset(options)
    return dataset, make_task(dataset, options.split, options.targets, options.repeats, stream=options.stream)


def read_dataset(options: argparse.Namespace, *, low_ratings_are_negative: bool = False) -> Dataset:
    """Read the data set that the options name; see `load_dataset`."""
    return load_dataset(
        options.dataset or options.data.name, options.data, options.cache,
        assume_timezone=options.assume_timezone, time_unit=options.time_unit,
        recipe=options.recipe, definitions=options.event_types,
        low_ratings_are_negative=low_ratings_are_negative,
    )  # fmt: skip


def task_setting(options: argparse.Namespace) -> dict[str, object]:
    """Return what distinguishes tasks on the same data and split, for kept fits."""
    return {"targets": options.targets, "repeats": options.repeats, "stream": options.stream}
