"""Write the report of the gate: the decision, each check with its figures, and a plot of the checks."""

from pathlib import Path
from typing import TYPE_CHECKING

from recsys.evaluation.report.page import write_page
from recsys.promotion.decision import (
    ASK,
    FAIL,
    HOLD,
    INCONCLUSIVE,
    NOT_APPLICABLE,
    PASS,
    PROMOTE,
    REJECT,
    Check,
    Decision,
)
from recsys.promotion.outcome import OUTCOMES, finding
from recsys.registry.connection import mlflow_client, mlflow_errors
from recsys.registry.tracking import EVALUATION_ARTIFACTS
from recsys.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

REPORT = "gate.md"
PAGE = "gate.html"
PLOT = "gate.png"

_CHAMPION_STAYS = {
    PROMOTE: "",
    HOLD: " The champion stays.",
    REJECT: " The champion stays.",
    ASK: " The champion stays until a person answers.",
}
_VERDICTS = {PASS: "pass", FAIL: "**fail**", INCONCLUSIVE: "inconclusive", NOT_APPLICABLE: "does not apply"}
_COLOURS = {PASS: "tab:green", FAIL: "tab:red", INCONCLUSIVE: "tab:orange"}


def write_gate_report(folder: Path, decision: Decision) -> Path:
    """Write `gate.md`, `gate.html` and, when a check has an interval, `gate.png`; return `gate.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = [check for check in decision.checks if check.low is not None and check.threshold is not None]
    against = decision.expected_champion
    compared = f"Compared with version {against}." if against else "There was no champion to compare with."
    lines = [
        "# Gate",
        "",
        f"**{OUTCOMES[decision.action]}**: {finding(decision)}",
        "",
        f"Reason: `{decision.reason}`. {compared}{_CHAMPION_STAYS[decision.action]}",
        "",
        "| check | verdict | observed | interval | threshold | detectable |",
        "| --- | --- | ---: | --- | ---: | ---: |",
        *(_row(check) for check in decision.checks),
        "",
        *(f"- `{check.name}`: {check.explanation}" for check in decision.checks),
        "",
    ]
    if measured:
        _save(_plot(measured), folder / PLOT)
        lines += [
            f"![Checks]({PLOT})",
            "",
            "Lines are intervals, dots are observed figures, black marks are thresholds.",
            "",
        ]
    path = folder / REPORT
    path.write_text("\n".join(lines))
    write_page(path)
    return path


def track_gate(settings: Settings, run_id: str, folder: Path) -> None:
    """Log the report and its plot next to the evaluation in MLflow."""
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"log the gate's report to run {run_id}"):
        for name in (REPORT, PAGE, PLOT):
            if (folder / name).is_file():
                client.log_artifact(run_id, str(folder / name), EVALUATION_ARTIFACTS)


def _row(check: Check) -> str:
    interval = "" if check.low is None or check.high is None else f"{check.low:+.4f} to {check.high:+.4f}"
    cells = [_number(check.observed), interval, _number(check.threshold), _number(check.detectable)]
    return f"| {check.name} | {_VERDICTS[check.verdict]} | {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _plot(checks: list[Check]) -> "Plot":
    """Plot each check's interval, scaled so that different units share one axis."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(7, 0.6 + 0.45 * len(checks)), layout="constrained")
    axes = plot.subplots()
    for row, check in enumerate(reversed(checks)):
        observed, low, high, threshold = (
            float(value or 0.0) for value in (check.observed, check.low, check.high, check.threshold)
        )
        scale = max(abs(threshold), abs(low), abs(high), 1e-12)
        colour = _COLOURS.get(check.verdict, "tab:gray")
        axes.plot([low / scale, high / scale], [row, row], color=colour, linewidth=3)
        axes.plot(observed / scale, row, marker="o", color=colour)
        axes.plot(threshold / scale, row, marker="|", color="black", markersize=16)
    axes.axvline(0, color="lightgray", zorder=0)
    axes.set_yticks(range(len(checks)), [check.name.replace("_", " ") for check in reversed(checks)])
    axes.set_xticks([])
    axes.set_xlabel("candidate worse   |   candidate better (each check on its own scale)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return plot


def _save(plot: "Plot", path: Path) -> None:
    from recsys.evaluation.report.plots import save

    save(plot, path)
