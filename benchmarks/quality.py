"""Compare ranking quality with tuned peers on the same split.

    python -m benchmarks.quality --dataset ml-100k --split leave-one-out --seeds 3 --json F
    python -m benchmarks.quality --data DIR --split temporal

The whole catalogue is ranked, without sampled negatives. Ties count against the model, and items that the
user has consumed are excluded. Our settings come from the environment, as in production, for example
`RECSYS_TRAINING__EPOCHS=40`. SASRec needs `make bench-peers`; select other models with `--models`.

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
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.fits import Fits, Judged, Outcome
from benchmarks.peers import (
    SASREC_GRID,
    PopularityByAttribute,
    Precomputed,
    TextNeighbours,
    fit_ease,
    fit_item_knn,
    fit_popularity,
    fit_sasrec,
    parse_grid,
    timed,
    write_split,
)
from benchmarks.splits import SPLITS, Protocol, make_split
from recsys.errors import RecsysError
from recsys.evaluation.bootstrap import mean_intervals, paired_bootstrap
from recsys.evaluation.ranking.cases import Cases
from recsys.evaluation.ranking.metrics import ranks, user_means
from recsys.evaluation.ranking.scorer import Scorer
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.ranking import NO_ITEM, mask_hidden, mask_unavailable, top_k
from recsys.model.recommender import Recommender
from recsys.settings import Settings
from recsys.snapshot.sequences import Sequences
from recsys.training.full import fit_full
from recsys.warehouse.value_checks import TimeUnit

K = 10
METRICS = (f"ndcg_at_{K}", f"recall_at_{K}", "mrr")
MODELS = ("ours", "ours_neural", "popularity", "item_knn", "ease", "sasrec")
COLD_MODELS = ("ours", "ours_neural", "popularity_by_genre", "text_neighbours")
SEEDLESS: dict[str, Callable[[Dataset, Protocol], tuple[Scorer, dict[str, Any]]]] = {
    "popularity": lambda data, split: fit_popularity(split, len(data.catalogue)),
    "item_knn": lambda data, split: fit_item_knn(split, len(data.catalogue)),
    "ease": lambda data, split: fit_ease(split, len(data.catalogue)),
    "popularity_by_genre": lambda data, split: (PopularityByAttribute(data.catalogue, split.known), {}),
    "text_neighbours": lambda data, _split: (TextNeighbours(data.catalogue, data.event_types), {}),
}
"""Models without randomness."""
_BATCH = 512


@dataclass
class Result:
    """The evaluations of one model, one per seed."""

    seeds: list[Judged] = field(default_factory=list)

    def per_case(self) -> NDArray[np.float64]:
        """Return the mean over seeds [cases, metrics]."""
        return np.mean([judged.metrics for judged in self.seeds], axis=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    home = Path(tempfile.mkdtemp(prefix="recsys-quality-"))
    try:
        dataset = load_dataset(
            options.dataset or options.data.name, options.data, options.cache,
            assume_timezone=options.assume_timezone, time_unit=options.time_unit,
            definitions=options.event_types,
        )  # fmt: skip
        split = make_split(dataset, options.split)
        results = compare(dataset, split, options, Settings(home=home), home)
    except RecsysError as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    figures = summarise(results, split.cases)
    figures = {"dataset": dataset.name, "split": options.split, "seeds": options.seeds, **figures}
    print(render(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.output:
        save_per_user(results, split.cases, options.output)


def compare(
    dataset: Dataset, split: Protocol, options: argparse.Namespace, settings: Settings, folder: Path
) -> dict[str, Result]:
    """Fit and evaluate every model, those with randomness once per seed."""
    fits = Fits.open(options.jobs, options.keep, fit_setting(dataset.name, options.split, settings))
    judge_sasrec = partial(_judge_sasrec, split.cases, folder, settings.model.max_events)
    tasks: dict[str, Callable[[], Outcome]] = {}
    for name in options.models:
        if name in SEEDLESS:
            tasks[name] = partial(_judge_seedless, name, dataset, split)
        elif name == "ours":
            for seed in range(options.seeds):
                run = folder / f"ours-{seed}"
                tasks[f"ours-{seed}"] = partial(judge_ours, dataset, split, settings, seed, run)
        elif name == "sasrec":
            write_split(split, len(dataset.catalogue), folder / "split.npz")
            for choice in parse_grid(options.sasrec_grid):
                tasks[_sasrec_name(choice, 0)] = partial(judge_sasrec, choice, 0)
    outcomes = fits.run(tasks)
    tuned = [outcome["sasrec"] for outcome in outcomes.values() if "sasrec" in outcome]
    if tuned:
        # Validation chooses the settings once, with seed 0.
        best = max(tuned, key=lambda judged: judged.details["best_validation_ndcg"])
        choice = best.details["options"]
        outcomes = {name: outcome for name, outcome in outcomes.items() if "sasrec" not in outcome}
        outcomes[_sasrec_name(choice, 0)] = {"sasrec": best}
        more = range(1, options.sasrec_seeds or options.seeds)
        outcomes |= fits.run({_sasrec_name(choice, s): partial(judge_sasrec, choice, s) for s in more})
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


def _judge_seedless(name: str, dataset: Dataset, split: Protocol) -> Outcome:
    return {name: judge(*timed(lambda: SEEDLESS[name](dataset, split)), split.cases)}


def _judge_sasrec(
    cases: Cases, folder: Path, length: int, options: Mapping[str, float], seed: int
) -> Outcome:
    output = folder / _sasrec_name(options, seed)
    scores, report = fit_sasrec(folder / "split.npz", output, seed, length, options)
    return {"sasrec": judge(scores, report, report["fit_seconds"], cases)}


def _sasrec_name(options: Mapping[str, float], seed: int) -> str:
    return "-".join(["sasrec", *(f"{name}-{value}" for name, value in options.items()), str(seed)])


def judge_ours(dataset: Dataset, split: Protocol, settings: Settings, seed: int, output: Path) -> Outcome:
    """Fit our model with a seed and evaluate it as a whole and its neural part alone."""
    return fit_and_judge(dataset, split, settings, seed, output)[0]


def fit_and_judge(
    dataset: Dataset, split: Protocol, settings: Settings, seed: int, output: Path
) -> tuple[Outcome, Recommender]:
    """Do the same as `judge_ours` and also return the model."""
    seeded = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
    model, details, seconds = timed(lambda: _fit_ours(dataset, split, seeded, output))
    outcome = {
        "ours": judge(model, details, seconds, split.cases),
        "ours_neural": judge(_Neural(model), {}, seconds, split.cases),
    }
    return outcome, model


def _fit_ours(
    dataset: Dataset, split: Protocol, settings: Settings, output: Path
) -> tuple[Recommender, dict[str, Any]]:
    def report(row: dict[str, Any]) -> None:
        print(
            f"  seed {settings.training.seed}, epoch {row['epoch']}: loss {row['next_item']:.3f}, "
            f"validation NDCG {row['validation_ndcg']:.4f} ({row['seconds']:.1f} s)",
            flush=True,
        )

    fitted = fit_full(
        dataset.catalogue, dataset.event_types, split.known, settings, output,
        split=split.validation, report=report,
    )  # fmt: skip
    epochs = [
        {"seconds": row["seconds"], "validation_ndcg": row["validation_ndcg"]} for row in fitted.history
    ]
    return fitted.model, {"metrics": fitted.metrics, "best_epoch": fitted.best_epoch, "epochs": epochs}


@dataclass(frozen=True)
class _Neural:
    """The neural part of our score."""

    model: Recommender

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return [users, items]."""
        return np.asarray(self.model.user_vectors(histories) @ self.model.item_vectors().T)


def judge(scorer: Scorer | Precomputed, details: dict[str, Any], seconds: float, cases: Cases) -> Judged:
    """Evaluate a model on test cases; see `METRICS`.

    Parameters
    ----------
    details, seconds
        Report and duration of the fit, which are passed on.
    """
    rank = np.zeros(len(cases), dtype=np.int64)
    shown = np.zeros(len(cases.available), dtype=bool)
    latest = cases.latest_of_users()
    for start in range(0, len(cases), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(cases)))
        histories = cases.histories(rows)
        given = scorer.scores[rows] if isinstance(scorer, Precomputed) else scorer.score(histories)
        scores = mask_hidden(np.array(given, dtype=np.float32), histories)
        scores = mask_unavailable(scores, cases.catalogue, histories.moments)
        rank[rows] = ranks(scores, cases.targets[rows])
        best, _ = top_k(scores[latest[rows]], K)
        shown[best[best != NO_ITEM]] = True
    metrics = np.stack([ndcg_of_ranks(rank, K), (rank <= K).astype(float), 1.0 / rank], axis=1)
    return Judged(metrics, float(shown.sum() / max(cases.available.sum(), 1)), seconds, details)


def summarise(results: dict[str, Result], cases: Cases) -> dict[str, Any]:
    """Return the metrics of all models and the paired differences between ours and each other model."""
    means = {name: user_means(result.per_case(), cases.users)[2] for name, result in results.items()}
    models = {}
    for name, result in results.items():
        intervals = mean_intervals(means[name], 10_000, 0.95)
        models[name] = {
            **{metric: interval.value for metric, interval in zip(METRICS, intervals, strict=True)},
            **{
                f"{metric}_interval": [interval.low, interval.high]
                for metric, interval in zip(METRICS, intervals, strict=True)
            },
            "coverage": float(np.mean([judged.coverage for judged in result.seeds])),
            "fit_seconds": float(np.mean([judged.seconds for judged in result.seeds])),
            "slices": _slices(result.per_case(), cases),
            "details": [judged.details for judged in result.seeds],
        }
    paired = {}
    if "ours" in means:
        for name in means:
            if name != "ours":
                interval = paired_bootstrap(means["ours"][:, 0], means[name][:, 0])
                paired[name] = {
                    "difference": interval.value, "low": interval.low, "high": interval.high
                }  # fmt: skip
    return {
        "users": len(next(iter(means.values()))), "cases": len(cases), "models": models, "paired": paired
    }  # fmt: skip


def _slices(per_case: NDArray[np.float64], cases: Cases) -> dict[str, dict[str, float]]:
    slices = {}
    for name, members in cases.slices.items():
        if members.any():
            users, _, means = user_means(per_case[members], cases.users[members])
            row = dict(zip(METRICS, means.mean(0).tolist(), strict=True))
            slices[name] = row | {"users": len(users), "cases": int(members.sum())}
    return slices


def render(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        f"{figures['dataset']}, {figures['split']}: {figures['users']:,} users, {figures['cases']:,} cases, "
        f"{figures['seeds']} seed(s)",
        "",
        "| model | NDCG@10 [95 %] | Recall@10 | MRR | coverage | fit s | ours minus it [95 %] |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in figures["models"].items():
        low, high = row[f"{METRICS[0]}_interval"]
        pair = figures["paired"].get(name)
        difference = f"{pair['difference']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]" if pair else ""
        lines.append(
            f"| {name} | {row[METRICS[0]]:.4f} [{low:.4f}, {high:.4f}] | {row[METRICS[1]]:.4f} | "
            f"{row['mrr']:.4f} | {row['coverage']:.3f} | {row['fit_seconds']:.0f} | {difference} |"
        )
    return "\n".join(lines)


def save_per_user(results: dict[str, Result], cases: Cases, folder: Path) -> None:
    """Write one Parquet file per model with user number, seed and metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        tables = []
        for seed, judged in enumerate(result.seeds):
            users, count, means = user_means(judged.metrics, cases.users)
            columns = {"user": users, "seed": np.full(len(users), seed), "cases": count}
            columns |= dict(zip(METRICS, means.T, strict=True))
            tables.append(pa.table(columns))
        pq.write_table(pa.concat_tables(tables), folder / f"{name}.parquet")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder of the data set, or of own files")
    parser.add_argument("--event-types", type=Path, help="file of event types, instead of the one in --data")
    parser.add_argument("--assume-timezone", help="time zone of times that have none, such as Europe/Paris")
    parser.add_argument("--time-unit", choices=get_args(TimeUnit), default="seconds", help="of numeric times")
    parser.add_argument("--split", choices=SPLITS, default="leave-one-out")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sasrec-grid", default=SASREC_GRID, help="width:dropout, ...; tuned with seed 0")
    parser.add_argument("--sasrec-seeds", type=int, help="number of seeds of SASRec; default: --seeds")
    parser.add_argument("--models", help=f"models to run, separated by commas: {','.join(MODELS)}")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel fits, which share the cores")
    parser.add_argument("--keep", type=Path, help="folder for finished fits, from which a later run resumes")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--output", type=Path, help="folder for per-user results")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    options = parser.parse_args(arguments)
    if not options.dataset and not options.data:
        parser.error("give --dataset or --data")
    known = COLD_MODELS if options.split == "cold-items" else MODELS
    options.models = tuple(options.models.split(",")) if options.models else known
    if unknown := set(options.models) - {*MODELS, *COLD_MODELS}:
        parser.error(f"unknown models {sorted(unknown)}")
    return options


if __name__ == "__main__":
    main()
