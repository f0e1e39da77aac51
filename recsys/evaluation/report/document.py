"""Write the report of an evaluation as Markdown and HTML, with plots."""

import re
from collections.abc import Sequence
from pathlib import Path

from recsys.evaluation.bootstrap import POWER, holm
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.labels import label
from recsys.evaluation.liking import Liking
from recsys.evaluation.off_policy.compare import OffPolicyComparison
from recsys.evaluation.ranking.fairness import largest_gaps
from recsys.evaluation.ranking.metrics import coverage_name, gini_name
from recsys.evaluation.ranking.slices import MIN_SLICE_USERS
from recsys.evaluation.report.page import write_page
from recsys.evaluation.report.plots import (
    curves_plot,
    metrics_plot,
    read_history,
    reliability_plot,
    save,
)
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.settings import EvaluationSettings

_MARKDOWN = re.compile(r"[\\`*_\[\]<>!|&#~()]")
_METRICS_PLOT = "metrics.png"
_CURVES_PLOT = "training_curves.png"
_RELIABILITY_PLOT = "reliability.png"
_REPORT = "report.md"


def write_report(
    folder: Path, comparison: Comparison, settings: EvaluationSettings, history: Path | None = None
) -> Path:
    """Write `report.md`, `report.html` and the plots into a folder.

    Parameters
    ----------
    history
        `history.jsonl` of the training; without it there are no training curves.

    Returns
    -------
    Path of `report.md`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    evaluation, guard = comparison.held_out, comparison.guard
    curves = read_history(history)
    if curves:
        save(curves_plot(curves), folder / _CURVES_PLOT)
    if comparison.liking:
        save(reliability_plot(comparison.liking), folder / _RELIABILITY_PLOT)
    lines = ["# Evaluation", ""]
    if evaluation.impossible is not None:
        lines += [f"**Nothing could be compared: {evaluation.impossible}**", ""]
    else:
        save(metrics_plot(evaluation), folder / _METRICS_PLOT)
        lines += [
            f"{evaluation.cases:,} held-out events of {evaluation.users:,} users. Each event is predicted "
            "from all earlier events of its user. The whole catalogue is ranked, except items that the user "
            f"has consumed. Figures are means over users with {settings.confidence:.0%} bootstrap intervals.",
            "",
            *figures_table(evaluation),
            "",
            f"![Metrics]({_METRICS_PLOT})",
            "",
            *_differences(evaluation, settings),
            *_slices(evaluation),
            *_fairness(evaluation, settings),
        ]
    if guard is not None:
        lines += [
            "## Old behaviour",
            "",
            f"{guard.cases:,} events of {guard.users:,} guard users. A candidate below the champion has "
            "forgotten.",
            "",
            *figures_table(guard),
            "",
        ]
    if comparison.off_policy is not None:
        lines += _off_policy(comparison.off_policy)
    lines += _liking(comparison.liking)
    if curves:
        lines += ["## Training", "", f"![Training curves]({_CURVES_PLOT})", ""]
    for scorer, reason in evaluation.failures.items():
        lines += [f"**{scorer} was not evaluated: {reason}.**", ""]
    path = folder / _REPORT
    path.write_text("\n".join(lines))
    write_page(path)
    return path


def figures_table(evaluation: Evaluation, scorers: Sequence[str] | None = None) -> list[str]:
    """Return the lines of a Markdown table: a row for each scorer, a column for each metric."""
    scorers = evaluation.scorers if scorers is None else scorers
    figures = {
        (f.scorer, f.metric): f
        for f in evaluation.figures
        if f.slice == evaluation.main_slice and f.value == f.value
    }
    catalogue = (coverage_name(evaluation.k), gini_name(evaluation.k))
    names = [
        name
        for name in (*evaluation.metrics, *catalogue)
        if any((scorer, name) in figures for scorer in scorers)
    ]
    lines = ["| | " + " | ".join(_label(name) for name in names) + " |", "| --- |" + " --- |" * len(names)]
    for scorer in scorers:
        cells = []
        for name in names:
            figure = figures.get((scorer, name))
            if figure is None:
                cells.append("-")
            elif figure.low != figure.low:
                cells.append(f"{figure.value:.3f}")
            else:
                cells.append(f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})")
        lines.append(f"| {_label(scorer)} | " + " | ".join(cells) + " |")
    return lines


def _label(name: str) -> str:
    """Return the label of a metric, scorer or slice as Markdown that shows it literally."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(label(name).split()))


def _differences(evaluation: Evaluation, settings: EvaluationSettings) -> list[str]:
    others = [name for name in evaluation.scorers if name != CANDIDATE and name not in evaluation.failures]
    if CANDIDATE not in evaluation.scorers or CANDIDATE in evaluation.failures or not others:
        return []
    lines = [
        "## Candidate against the others",
        "",
        "Paired on the same users. An interval that excludes 0 shows a difference. p is corrected for the "
        f"number of metrics (Holm). A true difference of the detectable size is found with {POWER:.0%} "
        "probability: when it is large and no difference is found, there is too little data.",
        "",
        "| against | metric | difference | p | detectable |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for other in others:
        intervals = evaluation.compare_all(CANDIDATE, other, settings)
        known = {name: each for name, each in intervals.items() if each.low == each.low}
        corrected = holm([each.p_value for each in known.values()])
        lines += [
            f"| {_label(other)} | {_label(name)} | {each.value:+.4f} ({each.low:+.4f} to {each.high:+.4f}) "
            f"| {p_value:.3f} | {each.detectable:.4f} |"
            for (name, each), p_value in zip(known.items(), corrected, strict=True)
        ]
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


def _fairness(evaluation: Evaluation, settings: EvaluationSettings) -> list[str]:
    metric = evaluation.metrics[0]
    rows = [
        f"| {_label(gap.family)} | {_label(scorer)} | {_label(gap.best)} | {_label(gap.worst)} "
        f"| {gap.difference:.4f} ({gap.low:+.4f} to {gap.high:+.4f}) | {gap.slices} |"
        for scorer in (CANDIDATE, CHAMPION)
        if scorer in evaluation.scorers and scorer not in evaluation.failures
        for gap in largest_gaps(evaluation, scorer, metric, settings)
    ]
    if not rows:
        return []
    return [
        "## Fairness",
        "",
        f"The largest gap in {_label(metric)} between slices of at least {MIN_SLICE_USERS} users. "
        "Best and worst are picked after looking, so part of every gap is chance.",
        "",
        "| | scorer | best | worst | gap | slices |",
        "| --- | --- | --- | --- | --- | ---: |",
        *rows,
        "",
    ]


def _off_policy(found: OffPolicyComparison) -> list[str]:
    lines = ["## On logged slates", ""]
    for reason, count in sorted(found.left_out.items()):
        lines.append(f"- {count:,} logged slates left out: {_label(reason)}.")
    if found.left_out:
        lines.append("")
    if not found.values:
        return [*lines, "No slate that was logged after the models were trained can be weighted.", ""]
    lines += [
        f"{found.reward}, estimated from {found.slates:,} logged slates. The slates as shown earned "
        f"{found.observed:.4f}.",
        "",
        "| policy | estimator | value | effective slates | support |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for name, value in found.values.items():
        lines += [
            f"| {_label(name)} | {_label(each.method)} "
            f"| {each.value:.4f} ({each.low:.4f} to {each.high:.4f}) "
            f"| {value.diagnostics.effective_slates:,.0f} | {value.diagnostics.support:.0%} |"
            for each in value.estimates
        ]
    difference = found.difference
    if difference is not None:
        lines.append(
            f"| candidate - champion | difference | {difference.value:+.4f} ({difference.low:+.4f} to "
            f"{difference.high:+.4f}) | {difference.effective_slates:,.0f} | {difference.overlap:.0%} |"
        )
    lines.append("")
    for name, value in found.values.items():
        if value.problem:
            lines += [f"**{_label(name)}: no conclusion: {value.problem}**", ""]
    if difference is not None:
        lines += [
            f"The two differ at {difference.changed:.2f} positions of a slate. The difference rests on as "
            f"many users as {difference.effective_users:,.0f} equally influential ones.",
            "",
        ]
    if found.problem:
        lines += [f"**The difference: no conclusion: {found.problem}**", ""]
    return lines


def _liking(liking: dict[str, Liking]) -> list[str]:
    if not liking:
        return []
    lines = ["## Liking head", "", "| | likes and dislikes | AUC | ECE |", "| --- | ---: | ---: | ---: |"]
    for name, each in liking.items():
        auc = "-" if each.auc is None else f"{each.auc:.3f}"
        lines.append(f"| {_label(name)} | {each.events:,} | {auc} | {each.ece:.3f} |")
    return [*lines, "", f"![Reliability]({_RELIABILITY_PLOT})", ""]
