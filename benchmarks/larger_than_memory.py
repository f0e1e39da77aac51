"""Measure whether the memory of a full fine-tune and its evaluation grows with the feedback.

    python -m benchmarks.larger_than_memory --rows 5000000 --json F

Two snapshots of synthetic events, one with four times the rows of the other, are trained on for one epoch,
each in a separate process, and another process evaluates the model. `training.events_in_memory` is half of
the smaller snapshot's rows. The larger snapshot is then used again with all events in memory. The figures are
the peak resident memory of each process. Text is frozen and the user encoder is tiny, because neither depends
on the number of events.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.datasets import PRODUCT_EVENT_TYPES
from recsys.columns import Columns, Purpose
from recsys.settings import EvaluationSettings, ModelSettings, Settings, TrainingSettings
from recsys.snapshot.interactions import InteractionsWriter, row_groups
from recsys.snapshot.manifest import EVENT_TYPES_FILE, ITEMS_FILE, FileEntry, Manifest
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.snapshot.store import Folder

_ITEMS = 500
_EVENTS_PER_USER = 50
_CHUNK = 250_000
_START = datetime(2026, 1, 1, tzinfo=UTC)
_GROWTH = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.larger_than_memory")
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the smaller snapshot")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        step, snapshot, run, limit = options.child
        before, started = _peak_rss_mib(), time.perf_counter()
        {"train": _train, "evaluate": _evaluate}[step](snapshot, Path(run), int(limit))
        seconds = time.perf_counter() - started
        figures = {"peak_rss_mib": _peak_rss_mib(), "rss_before_mib": before, "seconds": seconds}
        print(json.dumps({f"{step}_{name}": value for name, value in figures.items()}))
        return
    from benchmarks.made_warehouse import report  # keeps its imports out of the children's memory

    large, limit = _GROWTH * options.rows, options.rows // 2
    figures: dict[str, Any] = {"rows": options.rows, "large_rows": large, "events_in_memory": limit}
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        root = Path(temporary)
        for name, rows, held in (
            ("small", options.rows, limit),
            ("large", large, limit),
            ("large_in_memory", large, large),
        ):
            snapshot = root / f"snapshot-{rows}"
            if not snapshot.exists():
                _write_snapshot(snapshot, rows)
            for step in ("train", "evaluate"):
                found = _child(step, snapshot, root / name, held)
                figures |= {f"{name}_{key}": value for key, value in found.items()}
    for step in ("train", "evaluate"):
        small, big = (figures[f"{name}_{step}_peak_rss_mib"] for name in ("small", "large"))
        figures[f"{step}_growth"] = big / small
    report(figures, options.json)


def _child(step: str, snapshot: Path, run: Path, limit: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.larger_than_memory"]
    command += ["--child", step, str(snapshot), str(run), str(limit)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def _train(snapshot: str, run: Path, limit: int) -> None:
    from recsys.training.job import TrainingJob
    from recsys.training.run import train

    settings = Settings(
        home=run / "home",
        model=ModelSettings(fine_tuning="frozen", dim=8, layers=1, heads=1, max_events=_EVENTS_PER_USER),
        training=TrainingSettings(
            epochs=1, batch_size=512, text_items_per_step=0, request_steps=0, events_in_memory=limit,
            device="cpu", full_softmax_items=100, sampled_negatives=100,
        ),
    )  # fmt: skip
    manifest = Folder(snapshot).read_manifest()
    reference = SnapshotRef(snapshot, manifest.digest, "full", manifest.rows, manifest.window_id)
    train(TrainingJob.of(settings, "full", reference, run))


def _evaluate(snapshot: str, run: Path, limit: int) -> None:
    from recsys.evaluation.compare import compare_candidate
    from recsys.snapshot.read import read_snapshot
    from recsys.training.data import events_in_parts

    opened = read_snapshot(snapshot, verify="sizes")
    with events_in_parts(opened, limit, run / "shards") as events:
        compare_candidate(
            opened, events, run / "checkpoint", None, None, EvaluationSettings(), run / "evaluation"
        )


def _peak_rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _write_snapshot(path: Path, rows: int) -> None:
    """Write a snapshot of synthetic events in the format of `recsys.snapshot.write`."""
    folder = Folder(str(path))
    interactions = InteractionsWriter(folder, Purpose.FULL)
    interactions.write(row_groups(_events(rows)))
    titles = [f"Item number {number}" for number in range(_ITEMS)]
    items = {
        Columns.ITEM_ID: [str(number) for number in range(_ITEMS)],
        Columns.TITLE: titles,
        Columns.DESCRIPTION: titles,
        Columns.ATTRIBUTES: ["{}"] * _ITEMS,
        "available": [True] * _ITEMS,
    }
    held_out_from = _START + timedelta(seconds=int(0.9 * rows))
    manifest = Manifest(
        kind="full",
        window={"window_id": 1},
        as_of=held_out_from,
        held_out_from=held_out_from,
        trained_through=TrainedThrough(1, held_out_from),
        parent=None,
        rows=interactions.rows,
        held_out_rows=rows - int(0.9 * rows),
        rows_by_purpose=interactions.rows_by_purpose,
        users=interactions.users,
        items=_ITEMS,
        files=(
            *interactions.files,
            _write_table(folder, ITEMS_FILE, pa.table(items)),
            _write_table(folder, EVENT_TYPES_FILE, PRODUCT_EVENT_TYPES.to_arrow()),
        ),
    )
    folder.write_manifest(manifest)


def _write_table(folder: Folder, name: str, table: pa.Table) -> FileEntry:
    with folder.writing(name) as file:
        pq.write_table(table, file.arrow())
    return file.entry


def _events(rows: int) -> Iterator[pa.RecordBatch]:
    """Yield one view or rating per second, of random users and of items with uneven popularity."""
    rng = np.random.default_rng(0)
    for first in range(0, rows, _CHUNK):
        number = np.arange(first, min(first + _CHUNK, rows))
        users = rng.integers(max(1, rows // _EVENTS_PER_USER), size=len(number))
        rated = rng.random(len(number)) < 0.5
        yield pa.RecordBatch.from_pydict(
            {
                Columns.FEEDBACK_ID: number,
                Columns.USER_KEY: [sha256(b"%d" % user).hexdigest() for user in users],
                Columns.ITEM_ID: (_ITEMS * rng.random(len(number)) ** 2).astype(np.int64).astype(str),
                Columns.EVENT_TYPE: np.where(rated, "rating", "view"),
                Columns.VALUE: pa.array(
                    np.where(rated, rng.integers(1, 6, len(number)), np.nan), from_pandas=True
                ),
                Columns.COMMENT: pa.nulls(len(number), pa.string()),
                Columns.OCCURRED_AT: pa.array(
                    (number * 1_000_000 + int(_START.timestamp()) * 1_000_000), pa.timestamp("us", tz="UTC")
                ),
                Columns.WEIGHT: np.ones(len(number), dtype=np.float32),
            }
        )


if __name__ == "__main__":
    main()
