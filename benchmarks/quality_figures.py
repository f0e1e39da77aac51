"""Summarise the evaluations of several models on the same cases: means, intervals, differences, slices."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.cases import TargetCases
from benchmarks.fits import Judged
from benchmarks.judging import METRICS, part_metrics
from recsys.evaluation.bootstrap import mean_intervals, paired_bootstrap
from recsys.evaluation.ranking.metrics import user_means


@dataclass
class Result:
    """The evaluations of one model, one per seed."""

    seeds: list[Judged] = field(default_factory=list)

    def per_case(self) -> NDArray[np.float64]:
        """Return the mean over seeds [cases, metrics]."""
        return np.mean([judged.metrics for judged in self.seeds], axis=0)


def summarise(results: dict[str, Result], cases: TargetCases, type_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the metrics of all models and the paired differences between ours and each other model."""
    types = dict(zip(type_names, cases.types.T, strict=True))
    slices = {**cases.slices, "repeat": cases.had, "explore": ~cases.had}
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
            "targets": _parts(result, cases, types),
            "slices": _parts(result, cases, slices),
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


def _parts(
    result: Result, cases: TargetCases, parts: dict[str, NDArray[np.bool_]]
) -> dict[str, dict[str, float]]:
    found = {name: part_metrics(result.seeds, cases, members) for name, members in parts.items()}
    return {name: row for name, row in found.items() if row is not None}


def render(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        f"{figures['dataset']}, {figures['split']}: {figures['users']:,} users, {figures['cases']:,} cases, "
        f"{figures['seeds']} seed(s)",
        *figures.get("notes", []),
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


def save_per_user(results: dict[str, Result], cases: TargetCases, folder: Path) -> None:
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
