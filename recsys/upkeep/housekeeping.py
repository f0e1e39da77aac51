"""What the warehouse needs every day: partitions, erasure, retention, reconciliation."""

import logging
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from recsys.alerts import send_alert
from recsys.errors import ServiceUnavailableError
from recsys.settings import Settings
from recsys.snapshot.store import Folder
from recsys.upkeep.erasure import erase_requested
from recsys.warehouse.partitions import ensure_ahead, retire_months
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import erasure_requests, quarantine, windows
from recsys.warehouse.windows import reconcile_window

# A writer that has not finished after this long was killed.
_UNFINISHED_AFTER = timedelta(days=1)
_RECONCILED_DAYS = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HousekeepingReport:
    """What housekeeping did.

    Attributes
    ----------
    erasures_waiting
        Requests to be forgotten that stay open while a snapshot is being written or MLflow is away.
    snapshots_removed, runs_removed, data_docs_removed
        Folders past their retention.
    windows_unbalanced
        Windows in which rows are missing: a person should look.
    rows_held
        Rows in quarantine that nobody has settled.
    open_transaction_minutes
        Age of the oldest transaction that has written and is open still: no window goes past it.
    """

    partitions_made: int
    partitions_retired: int
    erasures_done: int
    erasures_waiting: int
    snapshots_removed: int
    runs_removed: int
    data_docs_removed: int
    windows_reconciled: int
    windows_unbalanced: list[int]
    rows_held: int
    open_transaction_minutes: int


def keep_house(engine: sa.Engine, settings: Settings) -> HousekeepingReport:
    """Do all daily chores; safe to run at any time and as often as wanted."""
    from recsys.registry.evaluation_files import erase_from_evaluations

    partitions_made = _make_partitions(engine, settings)
    partitions_retired = _retire_partitions(engine, settings)
    snapshots_removed = _remove_old_snapshots(engine, settings)
    _remove_left_over_shards(settings)
    erased = erase_requested(
        engine, settings.snapshots, partial(erase_from_evaluations, settings), settings.runs
    )
    reconciled, unbalanced = _reconcile(engine, settings)
    report = HousekeepingReport(
        partitions_made=partitions_made,
        partitions_retired=partitions_retired,
        erasures_done=len(erased),
        erasures_waiting=_waiting(engine),
        snapshots_removed=snapshots_removed,
        # MLflow has what the runs made.
        runs_removed=_remove_old_folders(settings.runs.glob("*/*"), settings.retention.training_runs_days),
        data_docs_removed=_remove_old_folders(
            settings.data_docs.glob("*"), settings.retention.snapshots_days
        ),
        windows_reconciled=reconciled,
        windows_unbalanced=unbalanced,
        rows_held=_rows_held(engine),
        open_transaction_minutes=_look_at_oldest_transaction(engine, settings),
    )
    _vacuum(engine)
    logger.info("housekeeping: %s", report)
    return report


def _make_partitions(engine: sa.Engine, settings: Settings) -> int:
    """Make partitions ahead; the other chores do not wait for whoever stands in the way."""
    try:
        return ensure_ahead(engine, settings.retention.partitions_ahead_months)
    except ServiceUnavailableError as error:
        send_alert(settings, str(error))
        return 0


def _retire_partitions(engine: sa.Engine, settings: Settings) -> int:
    months = settings.retention.feedback_months
    if months is None:
        return 0
    try:
        return retire_months(engine, months)
    except ServiceUnavailableError as error:
        send_alert(settings, str(error))
        return 0


def _look_at_oldest_transaction(engine: sa.Engine, settings: Settings) -> int:
    """Alert when a transaction that was left open keeps windows from going on; return its age in minutes."""
    with engine.connect() as connection:
        holder = connection.execute(sa.text(read_statement("upkeep/select_horizon_holder"))).first()
    if holder is None or holder.minutes is None:
        return 0
    if holder.minutes > settings.alerts.max_open_transaction_minutes:
        end = (
            f"process {holder.pid}: end it with pg_terminate_backend({holder.pid})"
            if holder.pid is not None
            else f"prepared as {holder.prepared_as!r}: COMMIT or ROLLBACK PREPARED it"
        )
        send_alert(
            settings,
            f"a transaction that has written is open for {holder.minutes:.0f} minutes and holds back windows "
            f"({end}; the limit is RECSYS_ALERTS__MAX_OPEN_TRANSACTION_MINUTES)",
        )
    return int(holder.minutes)


def _reconcile(engine: sa.Engine, settings: Settings) -> tuple[int, list[int]]:
    since = sa.func.now() - timedelta(days=_RECONCILED_DAYS)
    with engine.connect() as connection:
        window_ids = connection.scalars(
            sa.select(windows.c.window_id).where(windows.c.opened_at >= since).order_by(windows.c.window_id)
        ).all()
    unbalanced = []
    for window_id in window_ids:
        result = reconcile_window(engine, window_id)
        if not result.balanced:
            unbalanced.append(window_id)
            send_alert(settings, f"feedback of window {window_id} does not add up: {result}")
    return len(window_ids), unbalanced


def _waiting(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        waiting = connection.scalar(
            sa.select(sa.func.count()).where(erasure_requests.c.status == "requested")
        )
    return int(waiting or 0)


def _rows_held(engine: sa.Engine) -> int:
    held = sa.select(sa.func.count()).select_from(quarantine).where(quarantine.c.status == "held")
    with engine.connect() as connection:
        return int(connection.scalar(held) or 0)


def _remove_old_snapshots(engine: sa.Engine, settings: Settings) -> int:
    """Remove the files of old snapshots; their rows stay, as evidence of what models were trained on.

    The latest of each kind and the one that the champion was trained on are kept.
    """
    from recsys.snapshot.erasure import snapshot_folders, unfinished_folders

    with engine.connect() as connection:
        statement = sa.text(read_statement("upkeep/select_expired_snapshots"))
        expired = set(connection.scalars(statement, {"days": settings.retention.snapshots_days}))
    old = [folder for folder in snapshot_folders(settings.snapshots) if folder.uri in expired]
    left_over = [
        folder
        for folder in unfinished_folders(settings.snapshots)
        if _last_written(folder) < datetime.now(UTC) - _UNFINISHED_AFTER
    ]
    for folder in (*old, *left_over):
        folder.remove()
    return len(old) + len(left_over)


def _last_written(folder: Folder) -> datetime:
    """Return when a file of a snapshot's folder, or a local folder without files, was written last."""
    written = [folder.fs.modified(path) for path in folder.fs.find(folder.path)]
    if not written and folder.is_local:
        written.append(folder.fs.modified(folder.path))
    return max(written, default=datetime.now(UTC))


def _remove_old_folders(folders: Iterable[Path], days: int) -> int:
    """Remove folders in which nothing was written for some days."""
    oldest = time.time() - timedelta(days=days).total_seconds()
    removed = 0
    for folder in folders:
        if folder.is_dir() and max(_modified(path) for path in (folder, *folder.rglob("*"))) < oldest:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _remove_left_over_shards(settings: Settings) -> None:
    """Remove events that a killed fine-tune left on disk, for which erasure would wait."""
    from recsys.snapshot.shards import shard_folders

    oldest = time.time() - _UNFINISHED_AFTER.total_seconds()
    for folder in shard_folders(settings.runs):
        run = folder.parent
        if max(_modified(path) for path in (run, *run.rglob("*"))) < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # written and removed while we look
        return time.time()


def _vacuum(engine: sa.Engine) -> None:
    """Renew the statistics of the partitioned table, which autovacuum leaves to us, and of its kin.

    Histories are read from an index alone where a vacuum has found the rows visible to all. Pages that it has
    found so before cost it nothing.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM (ANALYZE, SKIP_LOCKED) feedback, users, items, quarantine"))
