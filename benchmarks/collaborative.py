"""Compare collaborative filtering on the neighbours of each item with exact EASE, and measure its cost.

    python -m benchmarks.collaborative --data DIR --json F
    python -m benchmarks.collaborative --made 1000,10000,100000 --json F

The first form ranks the test cases of a protocol (docs/quality.md) with the weights of `recsys.model`, with
exact EASE of the same penalty (12 bytes for each pair of items; `--max-exact` leaves it out above a number of
items), and with tuned item-kNN. Intervals are from a bootstrap over users, paired for differences. With
`--nearest 30`, an item keeps so many counts, as RECSYS_MODEL__COLLABORATIVE_PAIRS has it in large catalogues.

The second form makes up feedback of catalogues of several sizes (twice as many users as items, items in
groups of 50 of different popularity, 20 events a user), fits, and updates with one more event of 1,000 users
each. Seconds are of processor time. `exponent` is the slope of log seconds over log items since the size
before. `difference` is the largest difference of an updated weight from solving all items again.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import NAMES, load_dataset
from benchmarks.judging import judge, validation_ndcg
from benchmarks.protocols import SPLITS, make_task
from benchmarks.quality_figures import Result, summarise
from benchmarks.rivals import Ease, ItemKnn, Log, tune
from recsys.model.co_occurrences import MAX_PAIRS
from recsys.model.collaborative import EASE
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences

TYPES = EventTypes.from_records([{"event_type": "view", "explicit": False, "weight": 1, "polarity": 0}])
_GROUP = 50
_EVENTS = 20
_FRESH_USERS = 1_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.collaborative", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder of the data set, or of own files")
    parser.add_argument("--recipe", help="what event types mean: shop, newsroom, video or music")
    parser.add_argument("--split", choices=SPLITS, default="leave-one-out")
    parser.add_argument("--targets", type=lambda text: tuple(text.split(",")), help="event types to predict")
    parser.add_argument("--penalty", type=_numbers, default=[300.0], help="penalties to fit with")
    parser.add_argument("--nearest", type=int, help="counts kept an item; default: as many as by default")
    parser.add_argument("--max-exact", type=int, default=15_000, help="items up to which EASE is fitted")
    parser.add_argument("--made", type=_numbers, help="sizes of made-up catalogues, items")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    options = parser.parse_args(arguments)
    if options.made:
        figures = {"cost": growth([int(size) for size in options.made])}
    elif options.dataset or options.data:
        figures = parity(options)
    else:
        parser.error("give --dataset, --data or --made")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def parity(options: argparse.Namespace) -> dict[str, Any]:
    """Return the quality of each form on one data set."""
    dataset = load_dataset(
        options.dataset or options.data.name, options.data, options.cache, recipe=options.recipe
    )
    task = make_task(dataset, options.split, options.targets)
    n_items = len(dataset.catalogue)
    results: dict[str, Result] = {}

    def add(name: str, model: Any, seconds: float, **details: Any) -> None:
        judged = judge(model, details, seconds, task.test)
        results[name] = Result([judged])
        print(f"{name}: NDCG@10 {judged.metrics[:, 0].mean():.4f}, {seconds:.1f} s", flush=True)

    for penalty in options.penalty:
        began = time.monotonic()
        pairs = n_items * options.nearest if options.nearest else MAX_PAIRS
        model = EASE.fit(task.known, n_items, penalty, max_pairs=pairs)
        add(f"neighbours, {penalty:g}", model, time.monotonic() - began, weights=model.weights.nnz)
        if n_items <= options.max_exact:
            log = Log(task.known, n_items, task.wanted, task.is_aligned)
            began = time.monotonic()
            exact = Ease.fit(log, {"penalty": penalty})
            add(f"all items, {penalty:g}", exact, time.monotonic() - began)
            own, other = (
                results[f"{name}, {penalty:g}"].per_case()[:, 0].mean()
                for name in ("neighbours", "all items")
            )
            print(f"  {own / other:.3f} of EASE of all items", flush=True)
            del exact
    began = time.monotonic()
    knn, details = tune(ItemKnn, task, n_items, validation_ndcg)
    add("item_knn", knn, time.monotonic() - began, **details)
    first = results[f"neighbours, {options.penalty[0]:g}"]
    figures = summarise({"ours": first} | results, task.test, dataset.event_types.names)
    return {"dataset": dataset.name, "split": options.split, "items": n_items, **figures}


def growth(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return seconds, memory and sizes of files of a fit and an update for catalogues of these sizes."""
    rows: list[dict[str, Any]] = []
    for n_items in sizes:
        known, before, after = make_up(n_items)
        began = time.process_time()
        model = EASE.fit([known, before], n_items, 300.0, keep_counts=True)
        fitted = time.process_time()
        updated = model.updated(before, after, 300.0)
        ended = time.process_time()
        assert model.co_occurrences is not None
        row = {
            "items": n_items,
            "events": known.events + before.events,
            "seconds": fitted - began,
            "update_seconds": ended - fitted,
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "counts": model.co_occurrences.counts.nnz,
            "weights": model.weights.nnz,
        }
        again = EASE.fit([known, after], n_items, 300.0)
        row["difference"] = float(abs(again.weights - updated.weights).max())
        row["solved_share"] = float(np.mean((model.weights != updated.weights).sum(axis=0) > 0))
        if rows:
            last = rows[-1]
            growth_of_items = np.log(n_items / last["items"])
            row["exponent"] = float(np.log(row["seconds"] / last["seconds"]) / growth_of_items)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def make_up(n_items: int) -> tuple[Sequences, Sequences, Sequences]:
    """Make up the feedback of most users, and that of 1,000 users before and after one more event each."""
    items = made_items(n_items)
    everything = histories_of(items, np.arange(len(items)))
    fresh = min(_FRESH_USERS, len(items) // 2)
    known = everything.take_users(np.arange(fresh, len(items)))
    after = everything.take_users(np.arange(fresh))
    before = after.where(np.arange(after.events) % _EVENTS != _EVENTS - 1)
    return known, before, after


def made_items(n_items: int) -> NDArray[np.int64]:
    """Make up [users, events] the items of twice as many users as items."""
    rng = np.random.default_rng(n_items)
    users = 2 * n_items
    # Popularity of groups, and of items in a group, by Zipf's law; a tenth of the events is of other groups.
    groups = max(1, n_items // _GROUP)
    of_groups, of_items = (1 / np.arange(1, count + 1) ** 0.8 for count in (groups, _GROUP))
    group = rng.choice(groups, users, p=of_groups / of_groups.sum())
    group = np.where(
        rng.random((users, _EVENTS)) < 0.1, rng.integers(groups, size=(users, _EVENTS)), group[:, None]
    )
    place = rng.choice(_GROUP, (users, _EVENTS), p=of_items / of_items.sum())
    return np.minimum(group * _GROUP + place, n_items - 1)


def histories_of(items: NDArray[np.int64], users: NDArray[np.int64]) -> Sequences:
    """Return the events of some users from `made_items`."""
    events = len(users) * _EVENTS
    return Sequences.build(
        user_keys=np.array([f"user-{user}" for user in users.tolist()], dtype=object),
        user_index=np.repeat(np.arange(len(users)), _EVENTS),
        item_index=items[users].ravel(),
        event_type=np.zeros(events, dtype=np.int64),
        value=np.full(events, np.nan),
        occurred_at=(users[:, None] * _EVENTS + np.arange(_EVENTS)).ravel(),
        feedback_id=np.arange(events),
        event_types=TYPES,
    )


if __name__ == "__main__":
    main()
