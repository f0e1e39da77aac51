"""Plots of an evaluation's report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.evaluation.labels import label
from recsys.evaluation.liking import Liking
from recsys.evaluation.result import CANDIDATE, Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

NOT_CURVES = ("epoch", "seconds", "training_seconds", "learning_rate")
"""Figures of an epoch that no curve shows."""
_PLOTS_A_ROW = 3


def metrics_plot(evaluation: Evaluation) -> "Plot":
    """Return bars with intervals, one panel per metric with values."""
    from matplotlib.figure import Figure

    known = {figure.metric for figure in evaluation.figures if figure.value == figure.value}
    metrics = [metric for metric in evaluation.metrics if metric in known] or [evaluation.metrics[0]]
    lines = -(-len(metrics) // _PLOTS_A_ROW)
    plot = Figure(figsize=(3.6 * _PLOTS_A_ROW, 3.2 * lines), layout="constrained")
    panels = plot.subplots(lines, _PLOTS_A_ROW, squeeze=False).ravel()
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    for axes, metric in zip(panels, metrics, strict=False):
        rows = [
            figure
            for figure in evaluation.figures
            if figure.metric == metric
            and figure.slice == evaluation.main_slice
            and figure.value == figure.value
        ]
        values = [row.value for row in rows]
        # Users with equal values have an interval of no width, whose limits rounding may put past the mean.
        errors = [
            [max(row.value - row.low, 0.0) for row in rows],
            [max(row.high - row.value, 0.0) for row in rows],
        ]
        colours = ["tab:blue" if row.scorer == CANDIDATE else "tab:gray" for row in rows]
        axes.bar([label(row.scorer) for row in rows], values, yerr=errors, color=colours, capsize=4)
        axes.set_title(label(metric))
        for tick in axes.get_xticklabels():
            tick.set(rotation=30, horizontalalignment="right")
        axes.spines[["top", "right"]].set_visible(False)
    return plot


def curves_plot(history: list[Mapping[str, Any]]) -> "Plot":
    """Return losses and validation metrics by epoch."""
    from matplotlib.figure import Figure

    names = [name for name in history[0] if name not in NOT_CURVES]
    metrics = [name for name in names if "ndcg" in name]
    losses = [name for name in names if name not in metrics]
    panels = [(title, group) for title, group in (("loss", losses), ("validation", metrics)) if group]
    plot = Figure(figsize=(4.5 * max(len(panels), 1), 3.4), layout="constrained")
    every = plot.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for axes, (title, group) in zip(every, panels, strict=False):
        for name in group:
            points = [
                (row.get("epoch", number), row[name])
                for number, row in enumerate(history)
                if isinstance(row.get(name), int | float)
            ]
            axes.plot(*zip(*points, strict=True), marker=".", label=name.replace("_", " "))
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    return plot


def reliability_plot(liking: Mapping[str, Liking]) -> "Plot":
    """Return observed against predicted shares of likes; calibrated predictions lie on the diagonal."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(4.2, 3.8), layout="constrained")
    axes = plot.subplots()
    axes.plot([0, 1], [0, 1], color="lightgray", linestyle="--")
    for name, each in liking.items():
        axes.plot(each.predicted, each.observed, marker="o", label=f"{label(name)}, ECE {each.ece:.3f}")
    axes.set(xlabel="predicted probability of a like", ylabel="share of likes", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return plot


def save(plot: "Plot", path: Path) -> None:
    """Write a plot as PNG, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(plot)
    plot.savefig(path, dpi=110)


def read_history(path: Path | None) -> list[Mapping[str, Any]]:
    """Return the rows of a training's `history.jsonl`; empty without the file."""
    if path is None or not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:  # the training was killed while it wrote its last line
            continue
    return [row for row in rows if isinstance(row, dict)]
