"""Measure what fresh feedback is worth by replaying real feedback in time order.

    python -m benchmarks.freshness --dataset ml-100k --json F --plot P.png

A model learns from the first half of the feedback. The second half is divided into 24 windows; each window is
predicted first and learned afterwards. Ways to use fresh feedback are compared on the same events:

(a) `none`: weights and user vectors do not change after the first half;
(b) `vectors`: user vectors are updated once an hour, by the events' times;
(c) `micro`: like (b), with a micro-update after each window, which starts from the previous one;
(d) `full`: like (b), with a full fine-tune on all events so far after each window;
(e) `live`: no training. The model of (a) publishes a pool of 200 at midnight, and the SQL function that
    serves it orders it again at every event, by what the user did since. `published` is the same pool as it
    was published.

Rivals of (c), which differ from it in one thing:

`no_replay`: fresh events alone are learned;
`held`: two updates of three are held, and the third learns what all three brought;
`lost`: the first half of each window is lost, for good.

An event is predicted from the user's events until the last full hour (for (a): in the first half), among all
items that the user has not consumed. NDCG@10 is the mean over the users of a window, then over windows.

`gain_recovered` is (c - a) / (d - a), with an interval from a bootstrap over windows. `cost_ratio` is the
mean training time of (c) divided by that of (d), in seconds of processor time, which other load on the
machine hardly changes. Both train with the same number of threads. `old_slice_loss` is the relative loss of
NDCG@10 of the last micro-updated model on the old behaviour of guard users, who are never trained on after
the first half.

(d) takes one or two minutes of one core per window. `--full-every 3` fine-tunes after every third window
and before the last one. Its model predicts until the next fine-tune, and so does a copy of (c) that has
learned the same windows: what is compared knows the same events. `--keep FOLDER` saves the base and (d)'s
models and their training times, so that a later run resumes.

The same figures are stated of events with items that had fewer than five events in the first half
(`new_items`) and of all others (`old_items`).

`--seeds N` repeats all with N seeds. Curves are means over seeds, and the interval resamples windows.

`committed_to_readable_seconds` is measured on a real Postgres and MLflow: the time from the commit of fresh
feedback until recommendations based on it are readable, through every stage of the hourly DAG.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.freshness_figures import ALL, SLICES, Replay, plot, summarise
from benchmarks.hourly_path import committed_to_readable
from benchmarks.live_lists import live_lists, ndcg_of_lists
from recsys.columns import PURPOSES, Purpose
from recsys.evaluation.evaluated_recommender import EvaluatedRecommender
from recsys.evaluation.ranking.cases import Cases, guard_cases
from recsys.evaluation.ranking.evaluate import mean_ndcg
from recsys.evaluation.ranking.metrics import ranks, user_means
from recsys.model.checkpoint import MANIFEST, load_recommender, read_manifest, save_recommender
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.item_age import ItemAges
from recsys.model.ranking import mask_hidden
from recsys.model.recent import EventLog
from recsys.model.recommender import Recommender
from recsys.settings import Settings, load_settings
from recsys.snapshot.guard import are_guard_users
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import find_targets
from recsys.training.full import fit_full
from recsys.training.micro import fit_micro

_LISTS = ("published", "live")
_UPDATES: dict[str, tuple[int, dict[str, float]]] = {
    "micro": (1, {}),
    "no_replay": (1, {"replay_users_per_fresh_user": 0.0}),
    "held": (3, {}),
    "lost": (1, {}),
}
"""Windows that an update learns, and settings other than those given."""
WAYS = ("none", "vectors", *_UPDATES, "full", *_LISTS)
_DEFAULT_WAYS = ("none", "vectors", "micro", "full", *_LISTS)
_NEW_ITEM_EVENTS = 5
"""An item with fewer events in the first half is new."""
_HOUR = 3_600_000_000
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_CASES_PER_USER = 20


@dataclass(frozen=True)
class Window:
    """One window of feedback.

    Attributes
    ----------
    positions
        Positions of the events to predict.
    start, end
        Microseconds since 1970; the end is exclusive.
    """

    positions: NDArray[np.int64]
    start: int
    end: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    home = Path(tempfile.mkdtemp(prefix="recsys-freshness-"))
    try:
        dataset = with_keys(
            load_dataset(
                options.dataset or options.data.name, options.data, options.cache, recipe=options.recipe
            )
        )
        settings = load_settings(home)
        runs = []
        for seed in range(options.seeds):
            training = settings.training.model_copy(update={"seed": seed})
            runs.append(
                replay(
                    dataset,
                    settings.model_copy(update={"training": training}),
                    options.windows,
                    options.ways.split(","),
                    (options.keep or home / "models") / f"seed-{seed}",
                    full_every=options.full_every,
                )
            )
        figures = summarise(dataset, runs)
        if not options.skip_path:
            path = committed_to_readable(options.data if options.dataset else None, options.cache)
            figures["committed_to_readable_seconds"] = path.pop("all")
            figures["committed_to_readable_by_stage"] = path
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(
        json.dumps({name: value for name, value in figures.items() if name != "curves"}, indent=2), flush=True
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.plot:
        plot(figures, options.plot)
    if options.mlflow:
        _log(figures, options.mlflow, options.plot)


def replay(
    dataset: Dataset,
    settings: Settings,
    windows: int,
    ways: Sequence[str],
    keep: Path,
    *,
    full_every: int = 1,
) -> Replay:
    """Predict and learn one window after another.

    Parameters
    ----------
    windows
        Number of windows in the second half of the feedback, with equal numbers of events.
    ways
        Some of `WAYS`, including (a).
    keep
        Folder of the base and (d)'s models. Existing models are not trained again.
    full_every
        Number of windows between (d)'s full fine-tunes; one more comes before the last window. In other
        windows (d)'s curve is None.
    """
    sequences = dataset.sequences
    half = int(np.quantile(sequences.occurred_at, 0.5, method="higher"))
    cut = cut_windows(sequences, half, windows)
    before = np.bincount(sequences.before(half).item_index, minlength=len(dataset.catalogue))
    base, base_seconds = full_fine_tune(dataset, sequences.before(half), settings, keep / "base")
    models: dict[str, Recommender | None] = dict.fromkeys((way for way in ways if way not in _LISTS), base)
    trained = [way for way in ways if way in _UPDATES or way == "full"]
    alike: dict[str, Recommender | None] = dict.fromkeys(trained if "full" in ways else ())
    left = _without_half(sequences, cut) if "lost" in ways else sequences
    done = Replay(
        curves={part: {way: [] for way in ways if part == ALL or way not in _LISTS} for part in SLICES},
        alike={part: {way: [] for way in alike} for part in SLICES},
        forgotten={way: [] for way in ways if way in _UPDATES},
        seconds={way: [] for way in trained},
        base_seconds=base_seconds,
        events_predicted=int(sum(len(window.positions) for window in cut)),
    )
    with live_lists(dataset) if set(ways) & set(_LISTS) else nullcontext() as lists:
        for window in cut if lists else ():
            for way, value in zip(
                _LISTS, ndcg_of_lists(base, lists, sequences, window.positions), strict=True
            ):
                if way in ways:
                    done.curves[ALL][way].append(value)
    old_cases = _old_cases(dataset, half, settings)
    for number, window in enumerate(cut):
        is_new = before[sequences.item_index[window.positions]] < _NEW_ITEM_EVENTS
        for way, model in models.items():
            known_until = half if way == "none" else None
            values = _ndcg(model, sequences, window, is_new, known_until)
            twin = alike.get(way)
            of_twin = values if twin is model else _ndcg(twin, sequences, window, is_new, None)
            for part in SLICES:
                done.curves[part][way].append(values[part])
                if way in alike:
                    done.alike[part][way].append(of_twin[part])
        if number < len(cut) - 1:
            for way, (every, changes) in _UPDATES.items():
                parent = models.get(way)
                if parent is None:
                    continue
                if (number + 1) % every == 0:
                    arrived = replace(window, start=cut[number + 1 - every].start)
                    micro = settings.micro_update.model_copy(update=changes)
                    models[way], spent = micro_update(
                        parent,
                        left if way == "lost" else sequences,
                        arrived,
                        half,
                        settings.model_copy(update={"micro_update": micro}),
                    )
                    done.seconds[way].append(spent)
                done.forgotten[way].append(_loss(base, models[way], old_cases, dataset))
            if "full" in ways:
                models["full"] = None
                if (number + 1) % full_every == 0 or number == len(cut) - 2:
                    known = sequences.before(window.end)
                    models["full"], spent = full_fine_tune(dataset, known, settings, keep / f"full-{number}")
                    done.seconds["full"].append(spent)
                    alike = {way: models[way] for way in alike}
        print(
            f"window {number + 1}/{len(cut)}: "
            + ", ".join(
                f"{way} {value:.4f}" for way in ways if (value := done.curves[ALL][way][number]) is not None
            )
            + "; processor s: "
            + ", ".join(f"{way} {sum(spent):.0f}" for way, spent in done.seconds.items()),
            flush=True,
        )
    return done


def with_keys(dataset: Dataset) -> Dataset:
    """Replace user ids with hashes, as the warehouse does, because guard users are chosen by their hash."""
    keys = np.empty(dataset.sequences.users, dtype=object)
    keys[:] = [sha256(str(user).encode()).hexdigest() for user in dataset.sequences.user_keys]
    return replace(dataset, sequences=replace(dataset.sequences, user_keys=keys))


def cut_windows(sequences: Sequences, half: int, count: int) -> list[Window]:
    """Divide the feedback from a time on into windows with equally many events; leave out empty ones."""
    late = sequences.occurred_at >= half
    edges = np.quantile(sequences.occurred_at[late], np.linspace(0, 1, count + 1), method="higher")
    edges[-1] += 1
    wanted = late & find_targets(sequences).chosen
    windows = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        inside = wanted & (sequences.occurred_at >= start) & (sequences.occurred_at < end)
        positions = np.flatnonzero(inside)
        owner = sequences.event_users()[positions]
        rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
        windows.append(Window(positions[rank < _CASES_PER_USER], int(start), int(end)))
    return [window for window in windows if len(window.positions)]


def full_fine_tune(
    dataset: Dataset, known: Sequences, settings: Settings, folder: Path
) -> tuple[Recommender, float]:
    """Return a full fine-tune and its processor seconds; read it from `folder` if it is there."""
    known = known.without_empty_users()
    checkpoint, fingerprint = folder / "checkpoint", _fingerprint(dataset, known, settings)
    if (checkpoint / MANIFEST).is_file():
        manifest = read_manifest(checkpoint)
        if manifest["fingerprint"] == fingerprint:
            model = load_recommender(checkpoint, to_update=True).with_catalogue(dataset.catalogue)
            return model.eval(), manifest["processor_seconds"]
    started = time.process_time()
    fitted = fit_full(dataset.catalogue, dataset.event_types, known, settings, folder / "run")
    seconds = time.process_time() - started
    shutil.rmtree(folder / "run", ignore_errors=True)
    save_recommender(fitted.model, checkpoint, fingerprint=fingerprint, processor_seconds=seconds)
    return fitted.model, seconds


def _fingerprint(dataset: Dataset, known: Sequences, settings: Settings) -> str:
    data = [dataset.name, known.events, int(known.occurred_at.max()), torch.get_num_threads()]
    sections = [section.model_dump(mode="json") for section in (settings.model, settings.training)]
    return sha256(json.dumps([data, sections], sort_keys=True).encode()).hexdigest()


def micro_update(
    parent: Recommender, sequences: Sequences, window: Window, half: int, settings: Settings
) -> tuple[Recommender, float]:
    """Run a micro-update on a window's events, selected as `sql/snapshot/select_micro_snapshot.sql` does."""
    snapshot = _micro_snapshot(sequences, window, half, settings)
    started = time.process_time()
    update = fit_micro(parent, snapshot, _FOREVER, settings)
    return update.model, time.process_time() - started


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
    purpose[fresh] = np.where(guard_users[owner[fresh]], code[Purpose.FRESH_GUARD], code[Purpose.FRESH])
    # All fresh events, and the latest known ones, which come before them in the user's order.
    known = np.bincount(owner[(purpose >= 0) & ~fresh], minlength=arrived.users)
    number = np.arange(arrived.events) - arrived.offsets[owner]
    recent = number >= (known - 2 * settings.model.max_events)[owner]
    return replace(arrived, purpose=purpose).where((purpose >= 0) & recent)


def _without_half(sequences: Sequences, cut: Sequence[Window]) -> Sequences:
    """Drop the earlier half of the events of each window."""
    kept = np.ones(sequences.events, dtype=bool)
    for window in cut:
        inside = (sequences.occurred_at >= window.start) & (sequences.occurred_at < window.end)
        kept &= ~(inside & (sequences.occurred_at < np.median(sequences.occurred_at[inside])))
    return sequences.where(kept)


def _ndcg(
    model: Recommender | None,
    sequences: Sequences,
    window: Window,
    is_new: NDArray[np.bool_],
    known_until: int | None,
) -> dict[str, float | None]:
    """Return the mean over users of NDCG@10 on a window's events, by slice; None without events or model."""
    if model is None:
        return dict.fromkeys(SLICES)
    owners = sequences.event_users()[window.positions]
    # User vectors date from the last full hour; items consumed since then are excluded nevertheless.
    moments = sequences.occurred_at[window.positions] // _HOUR * _HOUR
    if known_until is not None:
        moments = np.minimum(moments, known_until)
    # Each user is encoded once per hour.
    hours, hour = np.unique(np.stack([owners, moments], 1), axis=0, return_inverse=True)
    known = sequences.take_users(hours[:, 0]).asked(hours[:, 1])
    known = known.where(known.occurred_at < hours[:, 1][known.event_users()])
    values = np.zeros(len(window.positions))
    scorer = model.scorer()
    order = np.argsort(hour, kind="stable")
    for begin in range(0, len(order), 256):
        rows = order[begin : begin + 256]
        needed, row = np.unique(hour[rows], return_inverse=True)
        consumed = sequences.prefixes(window.positions[rows])
        histories = known.take_users(needed)
        scores = scorer.score(scorer.user_vectors(histories), histories).cpu().numpy()[row]
        scores = mask_hidden(scores, consumed)
        values[rows] = ndcg_of_ranks(ranks(scores, sequences.item_index[window.positions[rows]]), 10)
    return {
        part: _over_users(values[rows], owners[rows]) if rows.any() else None
        for part, rows in zip(SLICES, (np.ones_like(is_new), is_new, ~is_new), strict=True)
    }


def _over_users(values: NDArray[np.float64], owners: NDArray[np.int64]) -> float:
    return float(user_means(values[:, None], owners)[2].mean())


def _old_cases(dataset: Dataset, half: int, settings: Settings) -> Cases | None:
    """Return cases of guard users' first-half events, among the items that had appeared by then."""
    old = dataset.sequences.before(half)
    ages = ItemAges.fit(dataset.sequences, len(dataset.catalogue))
    guard = are_guard_users(old.user_keys, settings.micro_update.guard_share)
    purpose = np.where(guard[old.event_users()], PURPOSES.index(Purpose.GUARD), -1).astype(np.int8)
    marked = replace(old, purpose=purpose).where(purpose >= 0)
    return guard_cases(marked, ages.dated(dataset.catalogue), settings.evaluation)


def _loss(base: Recommender, updated: Recommender | None, cases: Cases | None, dataset: Dataset) -> float:
    """Return the relative loss of NDCG@10, with what was popular at the time of each case."""
    if cases is None or updated is None:
        return float("nan")
    log = EventLog.of(dataset.sequences)
    models = {"base": base, "updated": updated}
    scorers = {
        name: EvaluatedRecommender(one, dataset.event_types, log).without_successions_of(cases.sequences)
        for name, one in models.items()
    }
    ndcg = mean_ndcg(scorers, cases, 10)
    return 1 - ndcg["updated"] / ndcg["base"]


def _log(figures: dict[str, Any], tracking_uri: str, image: Path | None) -> None:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("freshness")
    with mlflow.start_run(run_name=f"freshness {figures['dataset']}"):
        mlflow.log_dict(figures, "freshness.json")
        for way, curve in figures["curves"].items():
            for number, value in enumerate(curve):
                if value is not None:
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
    parser.add_argument("--recipe", help="what event types mean, see recsys migrate --recipe")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--ways", default=",".join(_DEFAULT_WAYS), help=f"some of {', '.join(WAYS)}")
    parser.add_argument("--full-every", type=int, default=1, help="windows between (d)'s full fine-tunes")
    parser.add_argument("--keep", type=Path, help="folder for the base and (d)'s models, to resume from")
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
