"""From feedback to a snapshot that a model can train on."""

from __future__ import annotations

import logging

from recsys.errors import NothingToDoError
from recsys.pipeline.context import Context
from recsys.pipeline.references import OpenedWindow, ValidatedWindow
from recsys.registry.lineage import Lineage

logger = logging.getLogger(__name__)

_MAX_CLOCK_DIFFERENCE_SECONDS = 300
_MAX_WINDOW_IDS = 100
"""The newest windows that a reference names: what XCom carries stays small."""


def open_window(context: Context) -> OpenedWindow:
    """Record which feedback this run handles; a retry finds the same window."""
    from recsys.alerts import send_alert
    from recsys.registry.versions import trained_through
    from recsys.warehouse.backlog import find_backlog
    from recsys.warehouse.windows import open_window as open_recorded_window

    run, first_lower = context.run, 0
    if run.dag_id == "hourly_micro_update":
        # The run that trained the champion has validated all that the champion knows.
        current = context.require_champion("to update")
        first_lower = trained_through(context.settings, current.model_version).transaction_id
    window = open_recorded_window(context.engine, run.dag_id, run.key, run.interval, first_lower=first_lower)
    _check_clock(context)
    backlog = find_backlog(context.engine, window)
    if backlog is not None:
        logger.warning("window %d: %s", window.window_id, backlog)
        limit = context.settings.alerts.max_open_transaction_minutes
        if backlog.holder is not None and backlog.holder.minutes > limit:
            send_alert(context.settings, f"{run.dag_id}: {backlog}")
    return OpenedWindow(window_id=window.window_id, arrived=window.arrived)


def _check_clock(context: Context) -> None:
    """Alert if the clocks of warehouse and worker differ: an interval would cut off what had arrived."""
    from recsys.alerts import send_alert
    from recsys.warehouse.backlog import warehouse_clock

    ahead = (warehouse_clock(context.engine) - context.clock()).total_seconds()
    if abs(ahead) > _MAX_CLOCK_DIFFERENCE_SECONDS:
        send_alert(
            context.settings,
            f"{context.run.dag_id}: the clock of the warehouse is {abs(ahead):,.0f} seconds "
            f"{'ahead of' if ahead > 0 else 'behind'} this worker's; windows of scheduled runs take the "
            "wrong feedback until both are right",
        )


def validate(context: Context, window: OpenedWindow) -> ValidatedWindow:
    """Quarantine rows that break a rule, check the rest, and publish the Data Docs.

    A night without new feedback is skipped, unless the champion knows erased users and has to be replaced
    soon.
    """
    from recsys.alerts import send_alert
    from recsys.validation.data_docs import link_to_run
    from recsys.validation.impressions import judge_impressions
    from recsys.validation.validate import validate_window
    from recsys.warehouse.windows import load_window, reconcile_window

    run, settings, engine = context.run, context.settings, context.engine
    recorded = load_window(engine, window.window_id)
    # All slates below the window's end are judged: it was opened before.
    judge_impressions(engine, settings.validation)
    try:
        report = validate_window(engine, recorded, settings, settings.data_docs)
    except NothingToDoError as nothing:
        if run.dag_id != "nightly_training" or not _champion_is_due(context):
            raise
        logger.warning("%s, but the champion knows erased users and has to be replaced", nothing)
        return ValidatedWindow(
            window_id=window.window_id, arrived=0, valid=0, quarantined=0, duplicates=0, data_docs=None
        )
    reconciliation = reconcile_window(engine, recorded.window_id)
    if not reconciliation.balanced:
        send_alert(settings, f"window {recorded.window_id} does not reconcile: {reconciliation}")
    return ValidatedWindow(
        window_id=report.window_id,
        arrived=report.arrived,
        valid=report.valid,
        quarantined=report.quarantined,
        duplicates=report.duplicates,
        data_docs=report.data_docs,
        data_docs_url=link_to_run(run.airflow_url, run.key) if run.airflow_url else None,
    )


def _champion_is_due(context: Context) -> bool:
    """Return whether the champion knows erased users and its time to be served soon ends."""
    from recsys.promotion.ledger import champion
    from recsys.promotion.replacement import is_due
    from recsys.promotion.serving_term import serving_term

    current = champion(context.engine)
    if current is None:
        return False
    term = serving_term(context.engine, context.settings, current.model_version)
    return is_due(term, context.settings.privacy, context.clock())


def take_full_snapshot(context: Context, window: ValidatedWindow) -> Lineage:
    """Write all valid feedback as of the window's end to Parquet, and a sample of it for replay."""
    from recsys.snapshot.full import take_full_snapshot as write_full_snapshot
    from recsys.snapshot.reservoir import write_reservoir
    from recsys.warehouse.windows import load_window

    settings, engine = context.settings, context.engine
    snapshot = write_full_snapshot(engine, load_window(engine, window.window_id), settings)
    write_reservoir(engine, snapshot, settings)
    return Lineage(
        snapshot=snapshot,
        window_ids=(window.window_id,),
        data_docs=window.data_docs,
        data_docs_url=window.data_docs_url,
    )


def take_micro_snapshot(context: Context, window: ValidatedWindow) -> Lineage:
    """Write what the champion has not trained on, with feedback to replay, to Parquet.

    Raises
    ------
    NothingToDoError
        There is too little to learn, or the champion knows erased users and its time is over: an update of it
        would know them too.
    """
    from recsys.promotion.serving_term import serving_term
    from recsys.registry.versions import trained_through
    from recsys.snapshot.micro import take_micro_snapshot as write_micro_snapshot
    from recsys.warehouse.windows import learned_windows, load_window

    settings, engine = context.settings, context.engine
    parent = context.require_champion("to update")
    term = serving_term(engine, settings, parent.model_version)
    if term is not None and term.is_over(context.clock()):
        raise NothingToDoError(f"{term}; it is not updated until `nightly_training` has replaced it")
    recorded = load_window(engine, window.window_id)
    known = trained_through(settings, parent.model_version)
    snapshot = write_micro_snapshot(engine, recorded, settings, known)
    learned = learned_windows(engine, recorded.window_id, known.transaction_id)
    return Lineage(
        snapshot=snapshot,
        parent=parent.model_version,
        window_ids=tuple(learned[-_MAX_WINDOW_IDS:]),
        data_docs=window.data_docs,
        data_docs_url=window.data_docs_url,
    )
