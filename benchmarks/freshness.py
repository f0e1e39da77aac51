"""What fresh feedback is worth: the real feedback of a catalogue, replayed in time order.

    python -m benchmarks.freshness --dataset ml-100k --json F --plot P.png

A model learns from the first half of the feedback. The second half comes in 24 windows: each is first
predicted, then learned. Four ways to keep up are compared on the same events:

(a) `none`: neither weights nor user vectors change after the first half;
(b) `vectors`: user vectors follow, once an hour by the events' own clock;
(c) `micro`: the same, and a micro-update after each window, each from the one before;
(d) `full`: the same, and a full fine-tune on everything so far after each window.

An event is predicted from what its user did until the last full hour (for (a): in the first half), among
all items that the user has not had. NDCG@10 is the mean over the users of a window, then over windows.

`gain_recovered` is (c - a) / (d - a), `cost_ratio` the training time of (c) over that of (d),
`old_slice_loss` the relative loss of NDCG@10 of the last micro-updated model on the old behaviour of guard
users, who are never trained on after the first half.

`committed_to_readable_seconds` is measured on a real Postgres and MLflow: from the commit of fresh feedback
to recommendations made with it being readable, through every stage of the hourly DAG.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.hourly_path import committed_to_readable
from recsys.columns import PURPOSES, Purpose
from recsys.evaluation.cases import guard_cases
from recsys.evaluation.evaluate import mean_ndcg
from recsys.evaluation.metrics import ranks, user_means
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.ranking import mask_consumed
from recsys.model.recommender import Recommender
from recsys.settings import Settings
from recsys.snapshot.guard import are_guard_users
from recsys.snapshot.sequences import Sequences
from recsys.training.batching import first_occurrences
from recsys.training.full import fit_full
from recsys.training.micro import fit_micro

WAYS = ("none", "vectors", "micro", "full")
_HOUR = 3_600_000_000
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_CASES_PER_USER = 20


@dataclass(frozen=True)
class Window:
    """Events of one window: what is predicted, and until when it lasts."""

    positions: NDArray[np.int64]
    """Of the events to predict."""
    start: int
    end: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    home = Path(tempfile.mkdtemp(prefix="recsys-freshness-"))
    try:
        dataset = _with_keys(load_dataset(options.dataset or options.data.name, options.data, options.cache))
        settings = Settings(home=home)
        figures = replay(dataset, settings, options.windows, options.ways.split(","), home)
        if not options.skip_path:
            path = committed_to_readable(options.data if options.dataset else None, options.cache)
            figures["committed_to_readable_seconds"] = path.pop("all")
            figures["committed_to_readable_by_stage"] = path
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps({name: value for name, value in figures.items() if name != "curves"}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.plot:
        plot(figures, options.plot)
    if options.mlflow:
        _log(figures, options.mlflow, options.plot)


def replay(
    dataset: Dataset, settings: Settings, windows: int, ways: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Predict and learn window after window; return the figures.

    Parameters
    ----------
    windows
        How many the second half of the feedback is divided into, of equal numbers of events.
    ways
        Which of `WAYS` to follow; (a) is always there.
    """
    sequences = dataset.sequences
    half = int(np.quantile(sequences.occurred_at, 0.5, method="higher"))
    cut = _windows(sequences, half, windows)
    base, base_seconds = _full(dataset, sequences.before(half), settings, folder / "base")
    models = dict.fromkeys(ways, base)
    seconds = dict.fromkeys(ways, 0.0)
    curves: dict[str, list[float]] = {way: [] for way in ways}
    for number, window in enumerate(cut):
        for way in ways:
            known_until = half if way == "none" else None
            curves[way].append(_ndcg(models[way], sequences, window, known_until))
        if number < len(cut) - 1:
            if "micro" in ways:
                models["micro"], spent = _micro(models["micro"], sequences, window, half, settings)
                seconds["micro"] += spent
            if "full" in ways:
                models["full"], spent = _full(
                    dataset, sequences.before(window.end), settings, folder / f"full-{number}"
                )
                seconds["full"] += spent
        print(
            f"window {number + 1}/{len(cut)}: "
            + ", ".join(f"{way} {curves[way][-1]:.4f}" for way in ways)
            + "; training s: "
            + ", ".join(f"{way} {seconds[way]:.0f}" for way in ("micro", "full") if way in ways),
            flush=True,
        )
    means = {way: float(np.mean(curves[way])) for way in ways}
    figures: dict[str, Any] = {
        "dataset": dataset.name,
        "windows": len(cut),
        "events_predicted": int(sum(len(window.positions) for window in cut)),
        "ndcg_at_10": means,
        "base_fit_seconds": base_seconds,
        "training_seconds": seconds,
        "curves": curves,
    }
    if "micro" in ways:
        figures["old_slice_loss"] = _forgotten(base, models["micro"], sequences, half, settings)
    if {"none", "micro", "full"} <= set(ways):
        gain = means["full"] - means["none"]
        figures["gain_recovered"] = (means["micro"] - means["none"]) / gain if gain > 0 else None
        figures["cost_ratio"] = seconds["micro"] / seconds["full"]
    return figures


def _with_keys(dataset: Dataset) -> Dataset:
    """Name users by hashes, as the warehouse does: guard users are chosen by them."""
    keys = np.empty(dataset.sequences.users, dtype=object)
    keys[:] = [sha256(str(user).encode()).hexdigest() for user in dataset.sequences.user_keys]
    return replace(dataset, sequences=replace(dataset.sequences, user_keys=keys))


def _windows(sequences: Sequences, half: int, count: int) -> list[Window]:
    late = sequences.occurred_at >= half
    edges = np.quantile(sequences.occurred_at[late], np.linspace(0, 1, count + 1), method="higher")
    edges[-1] += 1
    wanted = late & (sequences.weight > 0) & first_occurrences(sequences)
    windows = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        inside = wanted & (sequences.occurred_at >= start) & (sequences.occurred_at < end)
        positions = np.flatnonzero(inside)
        owner = sequences.event_users()[positions]
        rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
        windows.append(Window(positions[rank < _CASES_PER_USER], int(start), int(end)))
    return [window for window in windows if len(window.positions)]


def _full(dataset: Dataset, known: Sequences, settings: Settings, folder: Path) -> tuple[Recommender, float]:
    started = time.monotonic()
    known = known.without_empty_users()
    fitted = fit_full(dataset.catalogue, dataset.event_types, known, settings, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return fitted.model, time.monotonic() - started


def _micro(
    parent: Recommender, sequences: Sequences, window: Window, half: int, settings: Settings
) -> tuple[Recommender, float]:
    """Update on a window's events, as `sql/select_micro_snapshot.sql` would select them."""
    started = time.monotonic()
    update = fit_micro(parent, _micro_snapshot(sequences, window, half, settings), _FOREVER, settings)
    return update.model, time.monotonic() - started


def _micro_snapshot(sequences: Sequences, window: Window, half: int, settings: Settings) -> Sequences:
    micro = settings.micro_update
    arrived = sequences.before(window.end)
    fresh = arrived.occurred_at >= window.start
    guard_users = are_guard_users(arrived.user_keys, micro.guard_share)
    affected = np.zeros(arrived.users, dtype=bool)
    affected[arrived.event_users()[fresh]] = True
    rng = np.random.default_rng(window.start)
    others = np.flatnonzero(~affected & ~guard_users & (arrived.lengths > 0))
    wanted = round(micro.replay_users_per_fresh_user * affected.sum())
    count = min(len(others), micro.max_replay_users, wanted)
    replayed = np.zeros(arrived.users, dtype=bool)
    replayed[rng.permutation(others)[:count]] = True

    owner = arrived.event_users()
    code = {purpose: PURPOSES.index(purpose) for purpose in PURPOSES}
    purpose = np.full(arrived.events, -1, dtype=np.int8)
    purpose[replayed[owner]] = code[Purpose.REPLAY]
    purpose[affected[owner]] = code[Purpose.HISTORY]
    purpose[(guard_users & ~affected)[owner] & (arrived.occurred_at < half)] = code[Purpose.GUARD]
    purpose[fresh] = np.where(guard_users[owner[fresh]], code[Purpose.PROBE], code[Purpose.FRESH])
    return replace(arrived, purpose=purpose).where(purpose >= 0).last(settings.model.max_events)


def _ndcg(model: Recommender, sequences: Sequences, window: Window, known_until: int | None) -> float:
    """Return the mean over users of NDCG@10 on a window's events."""
    values = np.zeros(len(window.positions))
    for begin in range(0, len(values), 256):
        positions = window.positions[begin : begin + 256]
        had = sequences.prefixes(positions)
        # User vectors are as old as the last full hour; what was consumed since is left out all the same.
        moments = sequences.occurred_at[positions] // _HOUR * _HOUR
        if known_until is not None:
            moments = np.minimum(moments, known_until)
        known = had.where(had.occurred_at < moments[had.event_users()])
        scores = mask_consumed(model.score(known), had)
        rank = ranks(scores, sequences.item_index[positions])
        values[begin : begin + 256] = ndcg_of_ranks(rank, 10)
    owners = sequences.event_users()[window.positions]
    return float(user_means(values[:, None], owners)[2].mean())


def _forgotten(
    base: Recommender, updated: Recommender, sequences: Sequences, half: int, settings: Settings
) -> float:
    """Return the relative loss of NDCG@10 on what guard users did in the first half."""
    old = sequences.before(half)
    guard = are_guard_users(old.user_keys, settings.micro_update.guard_share)
    purpose = np.where(guard[old.event_users()], PURPOSES.index(Purpose.GUARD), -1).astype(np.int8)
    marked = replace(old, purpose=purpose).where(purpose >= 0)
    cases = guard_cases(marked, base.catalogue, settings.evaluation)
    if cases is None:
        return float("nan")
    ndcg = mean_ndcg({"base": base, "updated": updated}, cases, 10)
    return 1 - ndcg["updated"] / ndcg["base"]


def plot(figures: dict[str, Any], path: Path) -> None:
    """Draw all curves, each the running mean of up to five windows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {
        "none": "(a) no update",
        "vectors": "(b) user vectors hourly",
        "micro": "(c) micro-updates",
        "full": "(d) full fine-tune each window",
    }
    figure, axes = pyplot.subplots(figsize=(9, 5))
    for way, curve in figures["curves"].items():
        smooth = np.convolve(curve, np.ones(5), "same") / np.convolve(np.ones(len(curve)), np.ones(5), "same")
        axes.plot(range(1, len(curve) + 1), smooth, label=f"{labels[way]}: {np.mean(curve):.4f}")
    axes.set_xlabel("window of feedback, in time order")
    axes.set_ylabel("NDCG@10 on the next window (mean of five)")
    axes.set_title(f"{figures['dataset']}: predicted first, learned afterwards")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _log(figures: dict[str, Any], tracking_uri: str, image: Path | None) -> None:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("freshness")
    with mlflow.start_run(run_name=f"freshness {figures['dataset']}"):
        mlflow.log_dict(figures, "freshness.json")
        for way, curve in figures["curves"].items():
            for number, value in enumerate(curve):
                mlflow.log_metric(f"ndcg_at_10_{way}", value, step=number)
        if image is not None:
            mlflow.log_artifact(str(image))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.freshness", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder of the data set, or of items.csv and feedback.csv")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--skip-path", action="store_true", help="do not measure committed_to_readable")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--plot", type=Path, help="PNG file for the curves")
    parser.add_argument("--mlflow", help="tracking URI to log curves and plot to")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    options = parser.parse_args(arguments)
    if not options.dataset and not options.data:
        parser.error("give --dataset or --data")
    return options


if __name__ == "__main__":
    main()
