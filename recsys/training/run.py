"""A training run: from a job to a checkpoint, its history and its result."""

import argparse
import io
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic_core import to_jsonable_python

from recsys.digests import folder_digest
from recsys.errors import RecsysError, TrainingError
from recsys.model.checkpoint import load_recommender, read_manifest, save_recommender
from recsys.model.device import choose_device
from recsys.model.recommender import Recommender
from recsys.settings import MicroUpdateSettings, TrainingSettings
from recsys.snapshot.read import Snapshot, read_snapshot
from recsys.snapshot.shards import SHARDS_FOLDER
from recsys.snapshot.slates import Slates
from recsys.training.data import known_events
from recsys.training.full import Fitted, fit_full
from recsys.training.job import TUNED_SETTINGS, TrainingJob, read_job
from recsys.training.micro import fit_micro
from recsys.training.parallel import barrier, is_first, is_first_here, join_processes, leave_processes
from recsys.training.result import (
    CHECKPOINT_FOLDER,
    HISTORY_FILE,
    TrainingResult,
    finished_result,
    write_result,
)
from recsys.training.run_lock import end_with_parent, hold_run_folder
from recsys.training.trainer import OnStep

_log = logging.getLogger("recsys.training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m recsys.training", description=__doc__)
    parser.add_argument("job", type=Path, help="file that recsys.training.job writes")
    parser.add_argument(
        "--end-with-parent", action="store_true", help="end when the standard input is closed"
    )
    options = parser.parse_args(arguments)
    if options.end_with_parent:
        end_with_parent()
    # The parent process reads each line as soon as it is written.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    logging.getLogger("recsys").setLevel(logging.INFO)
    try:
        job = read_job(options.job)
        join_processes(choose_device(job.training.device))
        train(job)
    except RecsysError as error:
        _log.error("%s: %s", type(error).__name__, error)
        return 1
    finally:
        leave_processes()
    return 0


def train(job: TrainingJob) -> TrainingResult:
    """Train in this process and write `checkpoint/`, `history.jsonl` and `result.json`.

    If another process trains in the folder, wait until it ends. If it finished the run, return its result.

    Raises
    ------
    TrainingError
        When the data or the settings give no sound model, or memory does not suffice.
    """
    with hold_run_folder(job.output) if is_first() else nullcontext():
        barrier()
        return _train(job)


def _train(job: TrainingJob) -> TrainingResult:
    output = job.output
    finished = finished_result(output, job.snapshot.uri)
    if finished is not None:
        _say("this run is already finished")
        return finished
    start = time.monotonic()
    _use_threads(job.training)
    snapshot = read_snapshot(job.snapshot)
    _say(f"{job.kind}: {snapshot.manifest.rows:,} events, {len(snapshot.catalogue()):,} items")
    history = output / HISTORY_FILE
    if is_first():
        history.write_text("")
    try:
        with _step_bar() as on_step:
            fitted = _fit(job, snapshot, _reporter(history), on_step)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "the GPU's memory does not suffice: lower RECSYS_TRAINING__BATCH_SIZE (and raise "
            f"RECSYS_TRAINING__GRADIENT_ACCUMULATION) or RECSYS_TRAINING__TEXT_ITEMS_PER_STEP ({error})"
        ) from error
    result = TrainingResult(
        checkpoint=str((output / CHECKPOINT_FOLDER).resolve()),
        history=str(history.resolve()),
        kind=job.kind,
        snapshot_uri=job.snapshot.uri,
        snapshot_digest=snapshot.manifest.digest,
        trained_through=snapshot.trained_through,
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        seconds=round(time.monotonic() - start, 3),
        metrics=fitted.metrics,
        stopped_because=fitted.stopped_because,
    )
    if is_first():
        _write_checkpoint(fitted.model, output / CHECKPOINT_FOLDER, result, job)
        result = replace(result, checkpoint_digest=folder_digest(output / CHECKPOINT_FOLDER))
        write_result(output, result)
        shutil.rmtree(output / "state", ignore_errors=True)
        _say(f"done in {result.seconds:.0f} s: {result.stopped_because}, best epoch {result.best_epoch}")
    barrier()
    return result


def _fit(
    job: TrainingJob,
    snapshot: Snapshot,
    report: Callable[[dict[str, Any]], None],
    on_step: OnStep | None,
) -> Fitted:
    settings = job.settings
    if job.parent is None:
        shards = job.output / SHARDS_FOLDER
        with known_events(snapshot, job.training.events_in_memory, shards) as known:
            return fit_full(
                snapshot.catalogue(), snapshot.event_types(), known, settings, job.output,
                unseen_share=job.unseen_share, slates=_known_slates(snapshot), report=report,
                on_step=on_step,
            )  # fmt: skip
    model = load_recommender(job.parent, to_update=True)
    return fit_micro(
        model.with_event_types(snapshot.event_types()).with_catalogue(snapshot.catalogue()),
        snapshot.sequences(),
        snapshot.held_out_from,
        settings,
        slates=None if model.appeal is None else _known_slates(snapshot),
        report=report,
        on_step=on_step,
    )


def _known_slates(snapshot: Snapshot) -> Slates | None:
    slates = snapshot.slates()
    return None if slates is None else slates.before(snapshot.held_out_from)


@contextmanager
def _step_bar() -> Iterator[OnStep | None]:
    """Show how far an epoch is to a person who watches; a log gets a line for each epoch instead."""
    if not (sys.stdout.isatty() and is_first_here()):
        yield None
        return
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        bar = progress.add_task("epoch 1")

        def on_step(epoch: int, done: int, steps: int) -> None:
            progress.update(bar, description=f"epoch {epoch + 1}", completed=done, total=max(done, steps))

        yield on_step


def _write_checkpoint(model: Recommender, folder: Path, result: TrainingResult, job: TrainingJob) -> None:
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    save_recommender(
        model,
        temporary,
        kind=result.kind,
        trained_through=to_jsonable_python(result.trained_through),
        snapshot_digest=result.snapshot_digest,
        parent=None if job.parent is None else job.parent.name,
        seed=job.training.seed,
        **{TUNED_SETTINGS: _tuned(job)},
        **({} if job.parent is None else _guard_entries(job.parent, job.micro_update)),
    )
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _tuned(job: TrainingJob) -> dict[str, int | float]:
    """Return the settings that come from a search; an update has those of its parent."""
    if job.parent is None:
        return job.tuned
    tuned: dict[str, int | float] = read_manifest(job.parent).get(TUNED_SETTINGS, {})
    return tuned


def _guard_entries(parent: Path, settings: MicroUpdateSettings) -> dict[str, object]:
    """Note what a chain of micro-updates knows of guard users: no more than its full fine-tune."""
    before = read_manifest(parent)
    return {
        "guard_trained_through": before.get("guard_trained_through", before["trained_through"]),
        "guard_share": min(settings.guard_share, before.get("guard_share", 1.0)),
    }


def _reporter(history: Path) -> Callable[[dict[str, Any]], None]:
    def report(row: dict[str, Any]) -> None:
        if is_first():
            with history.open("a") as file:
                file.write(json.dumps(row) + "\n")
        losses = ", ".join(f"{name} {row[name]:.3f}" for name in _LOSSES if name in row)
        measured = ", ".join(f"{name} {row[key]:.4f}" for key, name in _MEASURED.items() if key in row)
        _say(f"epoch {row['epoch']}: {losses}; {measured} ({row['seconds']:.1f} s)")

    return report


_MEASURED = {"validation_ndcg": "validation NDCG"}
_LOSSES = ("next_item", "liking", "rating", "request")


def _say(message: str) -> None:
    if is_first_here():
        _log.info("%s", message)


def _use_threads(settings: TrainingSettings) -> None:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    elif settings.devices > 1:
        # The processes on this machine share its cores.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.devices))
