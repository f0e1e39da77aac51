"""The demo's report, read from the warehouse: as JSON and as text for a terminal."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from recsys.warehouse.tables import (
    feedback,
    items,
    model_evaluations,
    promotion_ledger,
    quarantine,
    recommendation_lists,
    windows,
)

_SHOWN_METRICS = {"ndcg_at_10": "NDCG@10", "recall_at_10": "Recall@10", "mrr": "MRR"}
_SCORER_NAMES = {
    "candidate": "this model",
    "champion": "previous champion",
    "popularity": "popularity",
    "collaborative_filtering": "collaborative filtering (EASE)",
}


@dataclass(frozen=True)
class DagOutcome:
    """The outcome of one DAG run."""

    state: str
    seconds: float
    run_key: str


@dataclass(frozen=True)
class Taste:
    """Titles that show one user's taste before and after new feedback. The user is not named."""

    liked: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    reason: str = ""


def choose_user(engine: sa.Engine, fresh_users: list[str]) -> str | None:
    """Return the user with the longest history among those who will give new feedback."""
    with engine.connect() as connection:
        found: str | None = connection.scalar(
            sa.select(feedback.c.user_id)
            .where(feedback.c.user_id.in_(fresh_users))
            .group_by(feedback.c.user_id)
            .order_by(sa.func.count().desc(), feedback.c.user_id)
            .limit(1)
        )
    return found


def recommended_titles(engine: sa.Engine, user_id: str, count: int = 5) -> list[str]:
    """Return the titles of a user's published recommendations, best first."""
    ranked = (
        sa.func.unnest(recommendation_lists.c.item_ids)
        .table_valued("item_id", with_ordinality="rank", joins_implicitly=True)
        .render_derived()
    )
    query = (
        sa.select(items.c.title)
        .select_from(recommendation_lists)
        .join(ranked, sa.true())
        .join(items, items.c.item_id == ranked.c.item_id)
        .where(recommendation_lists.c.user_id == user_id)
        .order_by(ranked.c.rank)
        .limit(count)
    )
    with engine.connect() as connection:
        return list(connection.scalars(query))


def first_reason(engine: sa.Engine, user_id: str) -> str:
    """Return the reason for a user's first recommendation as one sentence, or an empty string."""
    reason = recommendation_lists.c.reasons[0].astext
    with engine.connect() as connection:
        found = connection.scalar(sa.select(reason).where(recommendation_lists.c.user_id == user_id))
    return found or ""


def latest_titles(engine: sa.Engine, user_id: str, liked_only: bool, count: int = 5) -> list[str]:
    """Return the titles of the items a user gave feedback on most recently, with the value."""
    query = (
        sa.select(items.c.title, feedback.c.value)
        .join(items, items.c.item_id == feedback.c.item_id)
        .where(feedback.c.user_id == user_id)
        .order_by(feedback.c.occurred_at.desc(), feedback.c.feedback_id.desc())
        .limit(count)
    )
    if liked_only:
        query = query.where(feedback.c.value >= 4)
    with engine.connect() as connection:
        return [
            title if value is None else f"{title} ({value:g})" for title, value in connection.execute(query)
        ]


def has_decided(engine: sa.Engine, dag_id: str) -> bool:
    """Return whether any run of a DAG has decided about a model."""
    decided = sa.exists().where(promotion_ledger.c.run_key.startswith(f"{dag_id}/", autoescape=True))
    with engine.connect() as connection:
        return bool(connection.scalar(sa.select(decided)))


def build_report(engine: sa.Engine, nightly: DagOutcome, hourly: DagOutcome) -> dict[str, Any]:
    """Return the report, read from the warehouse, as JSON values. Scripts rely on its keys."""
    with engine.connect() as connection:
        held = connection.scalar(sa.select(sa.func.count()).select_from(quarantine))
        kept = connection.scalar(sa.select(sa.func.count()).select_from(feedback))
        broken = sa.select(sa.func.unnest(quarantine.c.reasons).label("reason")).subquery()
        reasons = connection.execute(
            sa.select(broken.c.reason, sa.func.count()).group_by(broken.c.reason).order_by(broken.c.reason)
        )
        by_reason: dict[str, int] = dict(reasons.tuples().all())
        champion = connection.execute(
            sa.select(promotion_ledger)
            .where(promotion_ledger.c.champion_sequence.is_not(None))
            .order_by(promotion_ledger.c.champion_sequence.desc())
            .limit(1)
        ).one_or_none()
        published = connection.scalar(sa.select(sa.func.count()).select_from(recommendation_lists))
        opened = connection.execute(sa.select(windows)).all()
    balanced = [
        window.reconciled_at is not None
        and window.arrived == window.valid + window.quarantined + window.duplicates + window.erased
        for window in opened
        if window.arrived > 0
    ]
    return {
        "rows_loaded": (kept or 0) + (held or 0),
        "rows_quarantined": held or 0,
        "quarantined_by_reason": by_reason,
        "nightly": _dag_report(engine, nightly, with_baselines=True),
        "hourly": _dag_report(engine, hourly, with_baselines=False),
        "champion_version": None if champion is None else champion.model_version,
        "champion_explanation": None if champion is None else champion.explanation,
        "published_users": published or 0,
        "reconciled": bool(balanced) and all(balanced),
    }


def _dag_report(engine: sa.Engine, outcome: DagOutcome, with_baselines: bool) -> dict[str, Any]:
    dag_id = outcome.run_key.split("/")[0]
    ledger = promotion_ledger.c
    with engine.connect() as connection:
        # A skipped run decided nothing, so show the decision of the last run that did.
        decided = connection.execute(
            sa.select(promotion_ledger)
            .where(ledger.run_key.startswith(f"{dag_id}/", autoescape=True))
            .order_by((ledger.run_key == outcome.run_key).desc(), ledger.ledger_id.desc())
            .limit(1)
        ).one_or_none()
        figures = connection.execute(
            sa.select(model_evaluations).where(
                model_evaluations.c.run_key == (outcome.run_key if decided is None else decided.run_key)
            )
        ).all()
    metrics: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for figure in figures:
        if figure.slice in ("all", "guard") and figure.value is not None:
            name = figure.metric if figure.slice == "all" else f"guard_{figure.metric}"
            metrics.setdefault(figure.scorer, {})[name] = figure.value
            if figure.low is not None:
                intervals.setdefault(figure.scorer, {})[name] = [figure.low, figure.high]
    report: dict[str, Any] = {
        "state": outcome.state,
        "seconds": round(outcome.seconds, 1),
        "metrics": metrics.pop("candidate", {}),
        "intervals": intervals,
        "version": None if decided is None else decided.model_version,
        "decision": None if decided is None else decided.action,
        "reason": None if decided is None else decided.reason,
        "explanation": None if decided is None else decided.explanation,
    }
    report["baselines" if with_baselines else "compared_with"] = metrics
    return report


def show_report(console: Console, report: dict[str, Any], taste: Taste, where_next: list[str]) -> None:
    """Print the report."""
    console.print()
    console.print(Panel(_feedback_text(report), title="Feedback", title_align="left"))
    for name, title in (("nightly", "Full fine-tune"), ("hourly", "Micro-update")):
        console.print(Panel(_model_text(report[name]), title=title, title_align="left"))
    if taste.before or taste.after:
        table = _side_by_side(
            {
                "rated highly before": taste.liked,
                "recommended before": taste.before,
                "rated just now": taste.fresh,
                "recommended after": taste.after,
            }
        )
        if taste.reason:
            table.caption = f"Why the first one: {escape(taste.reason)}."
        console.print(Panel(table, title="One user", title_align="left"))
    if any(report["visit"].values()):
        visit = {
            "shown first": report["visit"]["before"],
            "clicked": report["visit"]["clicked"],
            "shown a moment later": report["visit"]["after"],
        }
        console.print(Panel(_side_by_side(visit), title="A new visitor", title_align="left"))
    champion = report["champion_version"]
    text = Text()
    text.append(f"Champion: version {champion}. " if champion else "No champion yet. ", style="bold")
    text.append(report["champion_explanation"] or "")
    text.append(f"\nPublished recommendations for {report['published_users']:,} users.\n\n")
    text.append("\n".join(where_next))
    console.print(Panel(text, title="Where to look next", title_align="left"))


def _feedback_text(report: dict[str, Any]) -> Text:
    text = Text(f"{report['rows_loaded']:,} events loaded, {report['rows_quarantined']} of them quarantined")
    for reason, count in report["quarantined_by_reason"].items():
        text.append(f"\n  {count:>4}  {reason}", style="dim")
    verdict = "every event is accounted for" if report["reconciled"] else "SOME EVENTS ARE MISSING"
    text.append(f"\nReconciliation: {verdict}.", style="green" if report["reconciled"] else "bold red")
    return text


def _model_text(dag: dict[str, Any]) -> Group:
    head = Text(f"{dag['state']} in {dag['seconds']:.0f} s")
    if dag["version"] is not None:
        decision, _, reason = str(dag["explanation"]).partition(":")
        head.append(f"; version {dag['version']} ")
        head.append(decision, style="bold")
        head.append(f":{reason}" if reason else "")
    if not dag["metrics"]:
        return Group(head)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("on the same held-out events")
    for title in _SHOWN_METRICS.values():
        table.add_column(title, justify="right")
    others = dag.get("baselines", dag.get("compared_with", {}))
    for scorer, metrics in {"candidate": dag["metrics"], **others}.items():
        bounds = dag["intervals"].get(scorer, {})
        table.add_row(
            _SCORER_NAMES.get(scorer, scorer),
            *(_figure(metrics.get(name), bounds.get(name)) for name in _SHOWN_METRICS),
            style="bold" if scorer == "candidate" else "",
        )
    return Group(head, table)


def _figure(value: float | None, bounds: list[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if bounds is None else f"{value:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def _side_by_side(columns: dict[str, list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for title in columns:
        table.add_column(title, ratio=1)
    for row in itertools.zip_longest(*columns.values(), fillvalue=""):
        table.add_row(*map(escape, row))
    return table
