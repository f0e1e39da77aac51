"""A readable report of an evaluation: Markdown with plots, for people and for MLflow."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.evaluation.metrics import coverage_name
from recsys.evaluation.result import CANDIDATE, Evaluation
from recsys.settings import EvaluationSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

METRICS_PLOT = "metrics.png"
CURVES_PLOT = "training_curves.png"
REPORT = "report.md"

_NOT_CURVES = ("epoch", "seconds", "learning_rate")


def write_report(
    folder: Path,
    evaluation: Evaluation,
    settings: EvaluationSettings,
    guard: Evaluation | None = None,
    history: Path | None = None,
) -> Path:
    """Write `report.md`, `metrics.png` and, with a training's `history.jsonl`, `training_curves.png`.

    Returns
    -------
    Path of the Markdown file; the plots lie beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save(_metrics_plot(evaluation), folder / METRICS_PLOT)
    curves = _read_history(history)
    if curves:
        _save(_curves_plot(curves), folder / CURVES_PLOT)
    lines = [
        "# Evaluation",
        "",
        f"{evaluation.cases:,} held-out events of {evaluation.users:,} users, each predicted from everything "
        "its user did before it; the whole catalogue is ranked, without what the user has consumed. Means "
        f"are over users, with {settings.confidence:.0%} intervals by bootstrap over users.",
        "",
        *_table(evaluation),
        "",
        f"![Metrics]({METRICS_PLOT})",
        "",
        *_differences(evaluation, settings),
        *_slices(evaluation),
    ]
    if guard is not None:
        lines += [
            "## Old behaviour",
            "",
            f"{guard.cases:,} events of {guard.users:,} guard users; a fall of the candidate below the "
            "champion is forgetting.",
            "",
            *_table(guard),
            "",
        ]
    if curves:
        lines += ["## Training", "", f"![Training curves]({CURVES_PLOT})", ""]
    for scorer, reason in evaluation.failures.items():
        lines += [f"**{scorer} was not evaluated: {reason}.**", ""]
    path = folder / REPORT
    path.write_text("\n".join(lines))
    return path


def _table(evaluation: Evaluation) -> list[str]:
    names = (*evaluation.metrics, coverage_name(evaluation.k))
    figures = {(f.scorer, f.metric): f for f in evaluation.figures if f.slice == evaluation.main_slice}
    lines = ["| | " + " | ".join(_label(name) for name in names) + " |", "| --- |" + " --- |" * len(names)]
    for scorer in evaluation.scorers:
        cells = []
        for name in names:
            figure = figures[scorer, name]
            if figure.value != figure.value:
                cells.append("-")
            elif figure.low != figure.low:
                cells.append(f"{figure.value:.3f}")
            else:
                cells.append(f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})")
        lines.append(f"| {_label(scorer)} | " + " | ".join(cells) + " |")
    return lines


def _differences(evaluation: Evaluation, settings: EvaluationSettings) -> list[str]:
    others = [name for name in evaluation.scorers if name != CANDIDATE and name not in evaluation.failures]
    if CANDIDATE not in evaluation.scorers or CANDIDATE in evaluation.failures or not others:
        return []
    lines = ["## Candidate against the others", "", "Paired on the same users; an interval without 0 is a"]
    lines[-1] += " difference that other users of the same kind would show too."
    lines += ["", "| against | " + " | ".join(_label(name) for name in evaluation.metrics) + " |"]
    lines += ["| --- |" + " --- |" * len(evaluation.metrics)]
    for other in others:
        intervals = [evaluation.compare(CANDIDATE, other, name, settings) for name in evaluation.metrics]
        cells = [f"{i.difference:+.4f} ({i.low:+.4f} to {i.high:+.4f})" for i in intervals]
        lines.append(f"| {_label(other)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _slices(evaluation: Evaluation) -> list[str]:
    names = [name for name in evaluation.slices if name != evaluation.main_slice]
    if not names:
        return []
    metric = evaluation.metrics[0]
    lines = [f"## {_label(metric)} by slice", "", "| | users | events | "]
    lines[-1] += " | ".join(_label(name) for name in evaluation.scorers) + " |"
    lines.append("| --- |" + " ---: |" * (2 + len(evaluation.scorers)))
    for name in names:
        result = evaluation.slices[name]
        means = [evaluation.mean(scorer, metric, name) for scorer in evaluation.scorers]
        cells = ["-" if mean != mean else f"{mean:.4f}" for mean in means]
        counts = f"{len(result.cases):,} | {int(result.cases.sum()):,}"
        lines.append(f"| {_label(name)} | {counts} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _metrics_plot(evaluation: Evaluation) -> "Plot":
    from matplotlib.figure import Figure

    plot = Figure(figsize=(3.2 * len(evaluation.metrics), 3.4), layout="constrained")
    for axes, metric in zip(plot.subplots(1, len(evaluation.metrics)), evaluation.metrics, strict=True):
        rows = [
            figure
            for figure in evaluation.figures
            if figure.metric == metric
            and figure.slice == evaluation.main_slice
            and figure.value == figure.value
        ]
        values = [row.value for row in rows]
        errors = [[row.value - row.low for row in rows], [row.high - row.value for row in rows]]
        colours = ["tab:blue" if row.scorer == CANDIDATE else "tab:gray" for row in rows]
        axes.bar([_label(row.scorer) for row in rows], values, yerr=errors, color=colours, capsize=4)
        axes.set_title(_label(metric))
        for label in axes.get_xticklabels():
            label.set(rotation=30, horizontalalignment="right")
        axes.spines[["top", "right"]].set_visible(False)
    return plot


def _curves_plot(history: list[Mapping[str, Any]]) -> "Plot":
    from matplotlib.figure import Figure

    names = [name for name in history[0] if name not in _NOT_CURVES]
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
        axes.legend(fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    return plot


def _save(plot: "Plot", path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(plot)
    plot.savefig(path, dpi=110)


def _read_history(path: Path | None) -> list[Mapping[str, Any]]:
    if path is None or not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:  # the last line of a training that was killed while writing
            continue
    return [row for row in rows if isinstance(row, dict)]


def _label(name: str) -> str:
    words = name.replace("_at_", "@").replace("_", " ")
    return words.replace("ndcg", "NDCG").replace("mrr", "MRR") if words != CANDIDATE else "candidate"
