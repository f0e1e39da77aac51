"""Figures and plot of `benchmarks.freshness`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import Dataset

ALL = "all"
SLICES = (ALL, "new_items", "old_items")
"""Parts of the events to predict."""
_RESAMPLES = 10_000
_SMOOTHED = 7
"""Windows in the running mean of the plot."""


@dataclass
class Replay:
    """What one seed gave.

    Attributes
    ----------
    curves
        By slice: NDCG@10 of each way in each window. None: (d) has no model that knows the window before, or
        nothing was to be predicted.
    alike
        By slice: the same of (d) since its latest fine-tune, and of the ways that update as they were then.
    forgotten
        For each way that updates, the loss on old behaviour of guard users after each window.
    seconds
        Processor seconds of each update or fine-tune.
    """

    curves: dict[str, dict[str, list[float | None]]]
    alike: dict[str, dict[str, list[float | None]]]
    forgotten: dict[str, list[float]]
    seconds: dict[str, list[float]]
    base_seconds: float
    events_predicted: int


def summarise(dataset: Dataset, runs: Sequence[Replay]) -> dict[str, Any]:
    """Return the figures of one seed or more; curves are means over seeds."""
    slices = {part: _mean_curves([run.curves[part] for run in runs]) for part in SLICES}
    alike = {part: _mean_curves([run.alike[part] for run in runs]) for part in SLICES}
    forgotten = {way: np.mean([run.forgotten[way] for run in runs], 0) for way in runs[0].forgotten}
    curves = slices[ALL]
    ways = set(curves)
    figures: dict[str, Any] = {
        "dataset": dataset.name,
        "seeds": len(runs),
        "windows": len(curves["none"]),
        "events_predicted": runs[0].events_predicted,
        "base_fit_seconds": float(np.mean([run.base_seconds for run in runs])),
        "training_seconds": {
            way: float(np.mean([spent for run in runs for spent in run.seconds[way]]))
            for way in runs[0].seconds
        },
        "full_fine_tunes": len(runs[0].seconds.get("full", ())),
        "threads": torch.get_num_threads(),
        "curves": curves,
    }
    for part in SLICES:
        figures[_named("ndcg_at_10", part)] = {way: _mean(curve) for way, curve in slices[part].items()}
    if forgotten:
        figures["old_slice_loss"] = {way: float(curve[-1]) for way, curve in forgotten.items()}
        figures["largest_old_slice_loss"] = {way: float(curve.max()) for way, curve in forgotten.items()}
    if {"none", "micro", "live"} <= ways:
        figures |= _share_of_hourly(curves)
    if {"none", "micro", "full"} <= ways:
        for part in SLICES:
            figures |= _compare(slices[part], alike[part], part)
        trained = figures["training_seconds"]
        figures["cost_ratio"] = trained["micro"] / trained["full"]
    return figures


def _named(name: str, part: str) -> str:
    return name if part == ALL else f"{name}_{part}"


def _mean_curves(runs: Sequence[dict[str, list[float | None]]]) -> dict[str, list[float | None]]:
    return {way: _mean_curve([run[way] for run in runs]) for way in runs[0]}


def _mean_curve(curves: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the mean over seeds for each window; None where a seed has none."""
    return [
        None if None in values else float(np.mean(np.array(values, dtype=np.float64)))
        for values in zip(*curves, strict=True)
    ]


def _mean(curve: Sequence[float | None]) -> float | None:
    values = [value for value in curve if value is not None]
    return float(np.mean(values)) if values else None


def _compare(
    curves: dict[str, list[float | None]], alike: dict[str, list[float | None]], part: str
) -> dict[str, Any]:
    """Return the share of (d)'s gain over (a) that other ways recover.

    In each window since the first fine-tune, models that learn know the same events. The interval resamples
    windows.
    """
    compared = {way: curve for way, curve in curves.items() if way not in alike} | alike
    rows = [row for row in zip(*compared.values(), strict=True) if None not in row]
    if not rows:
        return {}
    values = dict(zip(compared, np.array(rows, dtype=np.float64).T, strict=True))
    gains = {way: curve - values["none"] for way, curve in values.items() if way != "none"}
    draws = np.random.default_rng(0).integers(0, len(rows), (_RESAMPLES, len(rows)))
    result: dict[str, Any] = {
        "windows_compared": len(rows),
        "ndcg_at_10_compared": {way: float(curve.mean()) for way, curve in values.items()},
    }
    total = gains["full"].mean()
    for way in (way for way in gains if way not in ("full", "published")):
        name = "gain_recovered" + {"micro": "", "vectors": "_by_vectors"}.get(way, f"_{way}")
        shares = gains[way][draws].mean(1) / np.maximum(gains["full"][draws].mean(1), 1e-9)
        result[name] = float(gains[way].mean() / total) if total > 0 else None
        result[f"{name}_interval"] = np.quantile(shares, [0.025, 0.975]).tolist()
        if way in alike and way != "micro":
            less = (values[way] - values["micro"])[draws].mean(1)
            result[f"{way}_minus_micro_interval"] = np.quantile(less, [0.025, 0.975]).tolist()
    return {_named(name, part): value for name, value in result.items()}


def _share_of_hourly(curves: dict[str, list[float | None]]) -> dict[str, Any]:
    """Return the share of an hourly update's gain over (a) that live lists recover; windows are resampled."""
    none, micro, live = (np.array(curves[way], dtype=np.float64)[1:] for way in ("none", "micro", "live"))
    draws = np.random.default_rng(0).integers(0, len(none), (_RESAMPLES, len(none)))
    total = (micro - none).mean()
    shares = (live - none)[draws].mean(1) / np.maximum((micro - none)[draws].mean(1), 1e-9)
    return {
        "hourly_gain_recovered_live": float((live - none).mean() / total) if total > 0 else None,
        "hourly_gain_recovered_live_interval": np.quantile(shares, [0.025, 0.975]).tolist(),
    }


def plot(figures: dict[str, Any], path: Path) -> None:
    """Plot all curves as running means of up to seven windows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {
        "none": "(a) no update",
        "vectors": "(b) user vectors hourly",
        "micro": "(c) micro-updates",
        "no_replay": "(c) without replay",
        "held": "(c) with two of three held",
        "lost": "(c) with half of each window lost",
        "full": "(d) full fine-tune just before",
        "published": "published every day by the model of (a)",
        "live": "(e) the same, ordered by live interest",
    }
    figure, axes = pyplot.subplots(figsize=(9, 5))
    for way, curve in figures["curves"].items():
        points = np.array([(number, value) for number, value in enumerate(curve, 1) if value is not None])
        if len(points) < len(curve):  # a line would suggest values that were not measured
            label = f"{labels[way]}, measured on {len(points)} windows"
            axes.scatter(points[:, 0], points[:, 1], label=label, color="tab:red")
            continue
        near = np.abs(points[:, :1] - points[:, 0]) <= _SMOOTHED // 2
        smooth = (near * points[:, 1]).sum(1) / near.sum(1)
        axes.plot(points[:, 0], smooth, label=f"{labels[way]}: {points[:, 1].mean():.4f}")
    axes.set_xlabel("window of feedback, in time order")
    axes.set_ylabel("NDCG@10 on the next window (running mean of seven)")
    axes.set_title(f"{figures['dataset']}: predicted first, learned afterwards")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
