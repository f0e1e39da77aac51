"""A version's description in Markdown, which a reviewer reads in the MLflow UI."""

from collections.abc import Mapping

from recsys.evaluation.report.document import figures_table
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.registry.connection import mlflow_client, mlflow_errors
from recsys.registry.lineage import Lineage
from recsys.settings import Settings
from recsys.training.result import TrainingResult

_KINDS = {"full": "Full fine-tune", "micro": "Micro-update"}
_BODY = "### "


def describe(
    version: str,
    training: TrainingResult,
    lineage: Lineage,
    evaluation: Evaluation | None,
    encoder: str | None,
    links: Mapping[str, str],
) -> str:
    """Describe a new version: its figures beside the champion's, its origin, and where to read more."""
    lines = []
    if evaluation is not None and evaluation.impossible is not None:
        lines += [f"{_BODY}Measured", "", f"Nothing could be compared: {evaluation.impossible}", ""]
    elif evaluation is not None:
        scorers = [name for name in (CANDIDATE, CHAMPION) if name in evaluation.scorers]
        opponent = evaluation.champion_version
        lines += [
            f"{_BODY}Measured",
            "",
            f"{evaluation.cases:,} held-out events of {evaluation.users:,} users"
            + (f"; the champion is version {opponent}." if opponent else "; there was no champion."),
            "",
            *figures_table(evaluation, scorers),
            "",
        ]
    origin = f" from version {lineage.parent}" if lineage.parent else ""
    lines += [
        f"{_BODY}Trained",
        "",
        f"{_KINDS[training.kind]}{origin} on {lineage.snapshot.rows:,} events in {training.seconds:,.0f} s, "
        f"{training.epochs} epochs ({training.stopped_because}), {_windows(lineage)}"
        + (f", text encoder `{encoder}`" if encoder else "")
        + f". Snapshot `{lineage.snapshot.uri}`, digest `{lineage.snapshot.digest[:12]}`.",
        "",
        "In SQL: its decisions with all checks are in `analytics.promotion_history`, its figures on all "
        "slices in `analytics.model_metrics`, its windows in `analytics.model_lineage` "
        f"(`model_version = '{version}'`).",
        "",
        " · ".join(f"[{name}]({address})" for name, address in links.items()),
    ]
    return "\n".join(lines).rstrip()


def _windows(lineage: Lineage) -> str:
    windows = lineage.window_ids
    if len(windows) < 2:
        return f"window {lineage.snapshot.window_id}"
    return f"windows {min(windows)} to {max(windows)}"


def describe_decision(settings: Settings, version: str, decision: str) -> None:
    """Put a decision at the top of a version's description, in place of an earlier one."""
    client, name = mlflow_client(settings), settings.registered_model
    with mlflow_errors(settings, f"describe version {version}"):
        described = client.get_model_version(name, version).description or ""
        start = described.find(_BODY)
        rest = f"\n\n{described[start:]}" if start >= 0 else ""
        client.update_model_version(name, version, decision + rest)
