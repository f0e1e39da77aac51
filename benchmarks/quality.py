"""Compare ranking quality with tuned rivals on the same cases.

    python -m benchmarks.quality --dataset ml-100k --split leave-one-out --seeds 3 --json F
    python -m benchmarks.quality --data DIR --split temporal

The whole catalogue is ranked, without sampled negatives. Ties count against the model, and what is off the
user's list at that moment is excluded. docs/quality.md explains protocols and rivals. Our settings come from
the environment, as in production, for example `RECSYS_TRAINING__EPOCHS=40`. SASRec and LiGR need
`make bench-peers`; `--models` selects models.

`--data DIR` reads any catalogue through `recsys ingest`, validation and a snapshot, and says what these
refuse; see `benchmarks/own_catalogue.py`. DIR holds, as CSV, TSV, JSONL or Parquet: `items` (item_id, title,
description; other columns become attributes), `feedback` (user_id, item_id, event_type, value, comment,
occurred_at), and optionally `users` and `event_types` (the columns of the table `event_types`). If no line of
feedback has a time, the order of the lines counts.

Metrics are means over users of the mean over seeds. Intervals are percentiles of a bootstrap over users,
paired for differences. `--output` saves per-user results. A GPU is used if there is one.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from benchmarks.cases import TargetCases, Task
from benchmarks.datasets import Dataset
from benchmarks.fits import Fits, Outcome
from benchmarks.judging import judge, validation_ndcg
from benchmarks.peers import (
    PEER_PYTHON,
    SASREC_GRID,
    SASREC_PATIENCE,
    PopularityByAttribute,
    Precomputed,
    TextNeighbours,
    fit_sasrec,
    parse_grid,
    require_rectools,
    timed,
    write_split,
)
from benchmarks.quality_figures import Result, render, save_per_user, summarise
from benchmarks.rivals import RIVALS, Rival, tune
from benchmarks.shown_cases import ClickRate, known_slates
from benchmarks.task_options import add_task_options, load_task, parse_task_options, task_setting
from recsys.errors import ConfigurationError, RecsysError
from recsys.evaluation.evaluated_recommender import EvaluatedRecommender
from recsys.evaluation.ranking.scorer import Scorer
from recsys.model.collaborative import Popularity
from recsys.model.recent import EventLog
from recsys.model.recommender import Recommender
from recsys.settings import Settings, load_settings
from recsys.snapshot.sequences import Sequences
from recsys.training.full import fit_full

OURS = ("ours", "ours_neural")
TRANSFORMERS = ("sasrec", "ligr")
"""Models of RecTools."""
MODELS = (*OURS, "popularity", *RIVALS, *TRANSFORMERS)
SHOWN_MODELS = (
    *OURS,
    "shown_order",
    "click_rate",
    "popularity",
    "v_sknn",
    "item_knn",
    "ease",
    "text_neighbours",
)
COLD_MODELS = ("ours", "ours_neural", "popularity_by_genre", "text_neighbours")
SEEDLESS: dict[str, Callable[[Dataset, Task], tuple[Scorer | Rival, dict[str, Any]]]] = {
    "popularity": lambda data, task: (Popularity.fit(task.known, len(data.catalogue)), {}),
    "popularity_by_genre": lambda data, task: (PopularityByAttribute(data.catalogue, task.known), {}),
    "text_neighbours": lambda data, _task: (TextNeighbours(data.catalogue, data.event_types), {}),
    "click_rate": lambda data, task: _click_rate(data, task),
    "shown_order": lambda data, task: (_shown_order(data, task), {}),
    **{
        name: lambda data, task, rival=rival: tune(rival, task, len(data.catalogue), validation_ndcg)
        for name, rival in RIVALS.items()
    },
}
"""Models without randomness."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    home = Path(tempfile.mkdtemp(prefix="recsys-quality-"))
    try:
        with _quiet("great_expectations", "recsys"):
            dataset, task = load_task(options)
        print("\n".join(task.notes))
        results = compare(dataset, task, options, load_settings(home), home)
    except (RecsysError, ValidationError) as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    figures = {
        "dataset": dataset.name, "split": options.split, "seeds": options.seeds, "notes": task.notes,
        **summarise(results, task.test, dataset.event_types.names),
    }  # fmt: skip
    print(render(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.output:
        save_per_user(results, task.test, options.output)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let these loggers show errors only."""
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def compare(
    dataset: Dataset, task: Task, options: argparse.Namespace, settings: Settings, folder: Path
) -> dict[str, Result]:
    """Fit and evaluate every model, those with randomness once per seed."""
    setting = fit_setting(dataset.name, options.split, settings) | task_setting(options)
    fits = Fits.open(options.jobs, options.keep, setting)
    judge_transformer = partial(_judge_transformer, task.test, folder, settings.model.max_events)
    tasks: dict[str, Callable[[], Outcome]] = {}
    if any(name in TRANSFORMERS for name in options.models):
        require_rectools()
        write_split(task, len(dataset.catalogue), folder / "split.npz")
    for name in options.models:
        if name in SEEDLESS:
            tasks[name] = partial(_judge_seedless, name, dataset, task)
        elif name == "ours":
            for seed in range(options.seeds):
                run = folder / f"ours-{seed}"
                tasks[f"ours-{seed}"] = partial(judge_ours, dataset, task, settings, seed, run)
        elif name in TRANSFORMERS:
            limits = {"patience": options.sasrec_patience, "minutes": options.sasrec_minutes}
            for choice in parse_grid(options.sasrec_grid, **limits):
                tasks[_run_name(name, choice, 0)] = partial(judge_transformer, name, choice, 0)
    outcomes = fits.run(tasks)
    for name in TRANSFORMERS:
        tuned = [outcome[name] for outcome in outcomes.values() if name in outcome]
        if tuned:
            # Validation chooses the settings once, with seed 0.
            best = max(tuned, key=lambda judged: judged.details["best_validation_ndcg"])
            choice = best.details["options"]
            outcomes = {run: outcome for run, outcome in outcomes.items() if name not in outcome}
            outcomes[_run_name(name, choice, 0)] = {name: best}
            more = range(1, options.sasrec_seeds or options.seeds)
            outcomes |= fits.run(
                {_run_name(name, choice, s): partial(judge_transformer, name, choice, s) for s in more}
            )
    results: dict[str, Result] = {name: Result() for name in options.models}
    for outcome in outcomes.values():
        for name, judged in outcome.items():
            if name in results:
                results[name].seeds.append(judged)
    return results


def fit_setting(dataset: str, split: str, settings: Settings) -> dict[str, Any]:
    """Return the data and settings that all compared fits share."""
    return {
        "dataset": dataset,
        "split": split,
        "model": settings.model.model_dump(mode="json"),
        "training": settings.training.model_dump(mode="json"),
    }


def _judge_seedless(name: str, dataset: Dataset, task: Task) -> Outcome:
    return {name: judge(*timed(lambda: SEEDLESS[name](dataset, task)), task.test)}


def _judge_transformer(
    cases: TargetCases, folder: Path, length: int, name: str, options: Mapping[str, float], seed: int
) -> Outcome:
    output = folder / _run_name(name, options, seed)
    scores, report = fit_sasrec(folder / "split.npz", output, seed, length, {**options, "layers": name})
    return {name: judge(scores, report | {"options": dict(options)}, report["fit_seconds"], cases)}


def _run_name(model: str, options: Mapping[str, float], seed: int) -> str:
    return "-".join([model, *(f"{name}-{value}" for name, value in options.items()), str(seed)])


def _click_rate(dataset: Dataset, task: Task) -> tuple[ClickRate, dict[str, Any]]:
    """Fit click rates with the prior that ranks the tuning cases best."""
    if dataset.shown is None or task.lists is None:
        raise ConfigurationError("click_rate needs --split shown-lists")
    train, known = task.lists
    fit = partial(ClickRate.fit, dataset.shown)
    quality = {
        prior: validation_ndcg(fit(train, len(dataset.catalogue), prior), task.tuning)
        for prior in ClickRate.PRIORS
    }
    best = max(quality, key=quality.__getitem__)
    return fit(known, len(dataset.catalogue), best), {"settings": {"prior": best}}


def _shown_order(dataset: Dataset, task: Task) -> Precomputed:
    """Score the items of each test list by the order in which they were shown."""
    if task.test.shown is None:
        raise ConfigurationError("shown_order needs --split shown-lists")
    offsets, items = task.test.shown
    scores = np.full((len(task.test), len(dataset.catalogue)), -np.inf, dtype=np.float32)
    rows = np.repeat(np.arange(len(task.test)), np.diff(offsets))
    scores[rows, items] = offsets[:-1][rows] - np.arange(len(items))
    return Precomputed(scores)


def judge_ours(dataset: Dataset, task: Task, settings: Settings, seed: int, output: Path) -> Outcome:
    """Fit our model with a seed and evaluate it as a whole and its neural part alone."""
    return fit_and_judge(dataset, task, settings, seed, output)[0]


def fit_and_judge(
    dataset: Dataset, task: Task, settings: Settings, seed: int, output: Path
) -> tuple[Outcome, Recommender]:
    """Do the same as `judge_ours` and also return the model."""
    seeded = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
    model, details, seconds = timed(lambda: _fit_ours(dataset, task, seeded, output))
    outcome = {
        "ours": judge(as_of_each_case(model, dataset, task), details, seconds, task.test),
        "ours_neural": judge(Neural(model), {}, seconds, task.test),
    }
    return outcome, model


def as_of_each_case(model: Recommender, dataset: Dataset, task: Task) -> EvaluatedRecommender:
    """Return the model as it scores the test cases: with the recent past of each case.

    In a split by users, most cases are older than the latest feedback that the model knows. The weight of
    recent popularity is fitted on what was popular just before each validation case. What is popular at the
    end of the log, perhaps years later, is something else, and that weight is not meant for it.
    """
    if task.log is not None:
        return EvaluatedRecommender(model, dataset.event_types, EventLog.of(task.log))
    recent = model.recent
    if recent is None or (task.test.at > recent.as_of).all():
        return EvaluatedRecommender(model, dataset.event_types)
    model = model.clone()
    model.recent = replace(recent, counts=np.zeros_like(recent.counts), as_of=0)
    return EvaluatedRecommender(model, dataset.event_types, EventLog.of(task.known))


def _fit_ours(
    dataset: Dataset, task: Task, settings: Settings, output: Path
) -> tuple[Recommender, dict[str, Any]]:
    def report(row: dict[str, Any]) -> None:
        print(
            f"  seed {settings.training.seed}, epoch {row['epoch']}: loss {row['next_item']:.3f}, "
            f"validation NDCG {row['validation_ndcg']:.4f} ({row['seconds']:.1f} s)",
            flush=True,
        )

    fitted = fit_full(
        dataset.catalogue, dataset.event_types, task.known, settings, output,
        split=task.split, slates=known_slates(dataset, task), report=report,
    )  # fmt: skip
    epochs = [
        {"seconds": row["seconds"], "validation_ndcg": row["validation_ndcg"]} for row in fitted.history
    ]
    return fitted.model, {"metrics": fitted.metrics, "best_epoch": fitted.best_epoch, "epochs": epochs}


@dataclass(frozen=True)
class Neural:
    """The neural part of our score."""

    model: Recommender

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return [users, items]."""
        return np.asarray(self.model.user_vectors(histories) @ self.model.item_vectors().T)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_task_options(parser)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--sasrec-grid",
        default=SASREC_GRID,
        help="width:dropout[:learning rate], ... of both; tuned with seed 0",
    )
    parser.add_argument(
        "--sasrec-patience", type=int, default=SASREC_PATIENCE,
        help="epochs without a better validation after which training of both stops",
    )  # fmt: skip
    parser.add_argument(
        "--sasrec-minutes", type=float, default=1_440, help="minutes after which no epoch of both starts"
    )
    parser.add_argument("--sasrec-seeds", type=int, help="number of seeds of SASRec; default: --seeds")
    parser.add_argument("--models", help=f"models to run, separated by commas: {','.join(MODELS)}")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel fits, which share the cores")
    parser.add_argument("--keep", type=Path, help="folder for finished fits, from which a later run resumes")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--output", type=Path, help="folder for per-user results")
    options = parse_task_options(parser, arguments)
    known = {"cold-items": COLD_MODELS, "shown-lists": SHOWN_MODELS}.get(options.split, MODELS)
    if not options.models and not PEER_PYTHON.is_file():
        print("RecTools is not installed (`make bench-peers`): SASRec and LiGR are left out")
        known = tuple(name for name in known if name not in TRANSFORMERS)
    options.models = tuple(options.models.split(",")) if options.models else known
    if unknown := set(options.models) - {*MODELS, *COLD_MODELS, *SHOWN_MODELS}:
        parser.error(f"unknown models {sorted(unknown)}")
    return options


if __name__ == "__main__":
    main()
