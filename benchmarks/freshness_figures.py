"""Figures and plot of `benchmarks.freshness`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import Dataset

_RESAMPLES = 10_000
_SMOOTHED = 7
"""Windows in the running mean of the plot."""


@dataclass
class Replay:
    """What one seed gave.

    Attributes
    ----------
    curves, new_items
        NDCG@10 of each way in each window, on all events and on those with new items. None: (d) has no model
        that knows the window before, or nothing was to be predicted.
    forgotten
        For each way that updates, the loss on old behaviour of guard users after each window.
    seconds
        Processor seconds of each update or fine-tune.
    """

    curves: dict[str, list[float | None]]
    new_items: dict[str, list[float | None]]
    forgotten: dict[str, list[float]]
    seconds: dict[str, list[float]]
    base_seconds: float
    events_predicted: int


def summarise(dataset: Dataset, runs: Sequence[Replay]) -> dict[str, Any]:
    """Return the figures of one seed or more; curves are means over seeds."""
    curves = {way: _mean_curve([run.curves[way] for run in runs]) for way in runs[0].curves}
    new_items = {way: _mean_curve([run.new_items[way] for run in runs]) for way in runs[0].new_items}
    forgotten = {way: np.mean([run.forgotten[way] for run in runs], 0) for way in runs[0].forgotten}
    ways = set(curves)
    figures: dict[str, Any] = {
        "dataset": dataset.name,
        "seeds": len(runs),
        "windows": len(curves["none"]),
        "events_predicted": runs[0].events_predicted,
        "ndcg_at_10": {way: _mean(curve) for way, curve in curves.items()},
        "ndcg_at_10_new_items": {way: _mean(curve) for way, curve in new_items.items()},
        "base_fit_seconds": float(np.mean([run.base_seconds for run in runs])),
        "training_seconds": {
            way: float(np.mean([spent for run in runs for spent in run.seconds[way]]))
            for way in runs[0].seconds
        },
        "full_fine_tunes": len(runs[0].seconds.get("full", ())),
        "threads": torch.get_num_threads(),
        "curves": curves,
    }
    if forgotten:
        figures["old_slice_loss"] = {way: float(curve[-1]) for way, curve in forgotten.items()}
        figures["largest_old_slice_loss"] = {way: float(curve.max()) for way, curve in forgotten.items()}
    if {"none", "micro", "live"} <= ways:
        figures |= _share_of_hourly(curves)
    if {"none", "micro", "full"} <= ways:
        figures |= _compare(curves)
        trained = figures["training_seconds"]
        figures["cost_ratio"] = trained["micro"] / trained["full"]
    return figures


def _mean_curve(curves: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the mean over seeds for each window; None where a seed has none."""
    return [
        None if None in values else float(np.mean(np.array(values, dtype=np.float64)))
        for values in zip(*curves, strict=True)
    ]


def _mean(curve: Sequence[float | None]) -> float | None:
    values = [value for value in curve if value is not None]
    return float(np.mean(values)) if values else None


def _compare(curves: dict[str, list[float | None]]) -> dict[str, Any]:
    """Return the gains over (a), and the share of (d)'s gain that the other ways recover.

    Only windows that all ways predict count, except the first, before which nothing was learned. The interval
    resamples windows.
    """
    rows = [row for row in zip(*curves.values(), strict=True) if None not in row][1:]
    values = dict(zip(curves, np.array(rows, dtype=np.float64).T, strict=True))
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
    return result


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
