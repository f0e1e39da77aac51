"""From feedback to a snapshot that a model can train on."""

from __future__ import annotations

from recsys.pipeline.context import Reference, Run, connect, require_champion

_WINDOWS_NAMED = 100
"""At most, on a model version: the newest."""


def open_window(run: Run) -> Reference:
    """Record which feedback this run handles; its retries find the same window."""
    from recsys.registry.versions import trained_through
    from recsys.warehouse.windows import open_window as open_recorded_window

    settings, engine = connect()
    first_lower = 0
    if run.dag_id == "hourly_micro_update":
        # What the champion has trained on was validated by the run that trained it.
        current = require_champion(engine, "to update")
        first_lower = trained_through(settings, current.model_version).transaction_id
    window = open_recorded_window(engine, run.dag_id, run.key, run.interval, first_lower=first_lower)
    return {"window_id": window.window_id, "arrived": window.arrived}


def validate(run: Run, window: Reference) -> Reference:
    """Move rows that break a rule to quarantine and check the rest; publish the Data Docs."""
    from recsys.alerts import send_alert
    from recsys.validation.data_docs import link_to_run
    from recsys.validation.validate import validate_window
    from recsys.warehouse.windows import load_window, reconcile_window

    settings, engine = connect()
    recorded = load_window(engine, window["window_id"])
    report = validate_window(engine, recorded, settings, settings.data_docs)
    reconciliation = reconcile_window(engine, recorded.window_id)
    if not reconciliation.balanced:
        send_alert(settings, f"window {recorded.window_id} does not reconcile: {reconciliation}")
    return {
        "window_id": report.window_id,
        "arrived": report.arrived,
        "valid": report.valid,
        "quarantined": report.quarantined,
        "duplicates": report.duplicates,
        "data_docs": report.data_docs,
        "data_docs_url": link_to_run(run.airflow_url, run.key) if run.airflow_url else None,
    }


def take_full_snapshot(run: Run, window: Reference) -> Reference:
    """Write all valid feedback as of the window's end to Parquet, and a sample of it to be replayed."""
    from recsys.snapshot.reservoir import write_reservoir
    from recsys.snapshot.write import take_full_snapshot as write_full_snapshot
    from recsys.warehouse.windows import load_window

    settings, engine = connect()
    snapshot = write_full_snapshot(engine, load_window(engine, window["window_id"]), settings)
    write_reservoir(engine, snapshot, settings)
    return snapshot.to_dict() | _data_docs(window)


def take_micro_snapshot(run: Run, window: Reference) -> Reference:
    """Write what the champion has not trained on, with feedback to replay, to Parquet."""
    from recsys.registry.versions import trained_through
    from recsys.snapshot.write import take_micro_snapshot as write_micro_snapshot
    from recsys.warehouse.windows import learned_windows, load_window

    settings, engine = connect()
    parent = require_champion(engine, "to update")
    recorded = load_window(engine, window["window_id"])
    known = trained_through(settings, parent.model_version)
    snapshot = write_micro_snapshot(engine, recorded, settings, known)
    learned = learned_windows(engine, recorded.window_id, known.transaction_id)
    return (
        snapshot.to_dict()
        | _data_docs(window)
        | {"parent": parent.model_version, "window_ids": learned[-_WINDOWS_NAMED:]}
    )


def _data_docs(window: Reference) -> Reference:
    # A run that was validated by an older release has no address.
    return {"data_docs": window["data_docs"], "data_docs_url": window.get("data_docs_url")}
