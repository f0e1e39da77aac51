"""Daily maintenance of the warehouse: partitions, erasure, retention, reconciliation."""

import logging
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from recsys.alerts import send_alert
from recsys.errors import ServiceUnavailableError
from recsys.settings import Settings
from recsys.snapshot.store import Folder
from recsys.upkeep.erasure import erase_everywhere
from recsys.upkeep.impressions import delete_old_impressions, forget_deleted_impressions
from recsys.upkeep.visitors import delete_silent_visitors, give_slates_to_users
from recsys.validation.impressions import KNOWN_LATER, release_impressions
from recsys.validation.quarantine import release_known
from recsys.warehouse.advisory_locks import SNAPSHOT_FILES, hold_lock
from recsys.warehouse.backlog import find_horizon_holder
from recsys.warehouse.partitions import ensure_ahead, retire_months
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import erasure_requests, quarantine, windows
from recsys.warehouse.windows import reconcile_window

PARTITIONS_AHEAD_MONTHS = 3
"""Housekeeping runs daily and feedback from the future is quarantined, so this is ample."""
_UNFINISHED_AFTER = timedelta(days=1)  # a snapshot or run without writes for this long was killed
_RECONCILED_DAYS = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HousekeepingReport:
    """What housekeeping did.

    Attributes
    ----------
    impressions_deleted
        Slates past their retention.
    erasures_waiting
        Erasure requests that are still open, see `erase_requested`.
    visitors_deleted
        Visitors who had been silent for longer than their retention.
    snapshots_removed, runs_removed, data_docs_removed
        Number of folders past their retention period.
    windows_unbalanced
        Ids of windows whose row counts do not match; each was alerted.
    rows_released
        Rows moved from quarantine back to feedback because their user, item and type are known by now.
    rows_held
        Rows in quarantine that are neither released nor discarded.
    open_transaction_minutes
        Age of the oldest open writing transaction; no window goes past it.
    """

    partitions_made: int
    partitions_retired: int
    impressions_deleted: int
    erasures_done: int
    erasures_waiting: int
    visitors_deleted: int
    snapshots_removed: int
    runs_removed: int
    data_docs_removed: int
    windows_reconciled: int
    windows_unbalanced: list[int]
    rows_released: int
    rows_held: int
    open_transaction_minutes: int


def keep_house(engine: sa.Engine, settings: Settings, now: datetime) -> HousekeepingReport:
    """Run all daily maintenance. It is safe to run at any time and any number of times.

    Parameters
    ----------
    now
        The age of files is counted up to this moment.
    """
    partitions_made = _make_partitions(engine, settings)
    # A month with held rows is not retired.
    rows_released = release_known(engine, settled_by="housekeeping")
    for reason in KNOWN_LATER:
        release_impressions(engine, reason, settled_by="housekeeping")
    partitions_retired = _retire_partitions(engine, settings)
    impressions_deleted = _delete_old_impressions(engine, settings)
    forget_deleted_impressions(engine)
    snapshots_removed = _remove_old_snapshots(engine, settings, now)
    _remove_abandoned_shards(settings, now)
    # MLflow keeps the results of the runs.
    runs_removed = _remove_old_folders(
        settings.runs.glob("*/*"), now - timedelta(days=settings.retention.training_runs_days)
    )
    data_docs_removed = _remove_old_folders(
        settings.data_docs.glob("*"), now - timedelta(days=settings.retention.snapshots_days)
    )
    give_slates_to_users(engine)
    _forget_old_fresh_feedback(engine)
    visitors_deleted = delete_silent_visitors(engine, settings)
    reconciled, unbalanced = _reconcile(engine, settings)
    open_transaction_minutes = _check_oldest_transaction(engine, settings)
    # Erasure rewrites files. On a full disk it fails, so all that makes room comes before it.
    erased = erase_everywhere(engine, settings, on_damage=partial(send_alert, settings))
    report = HousekeepingReport(
        partitions_made=partitions_made,
        partitions_retired=partitions_retired,
        impressions_deleted=impressions_deleted,
        erasures_done=len(erased),
        erasures_waiting=_open_erasure_requests(engine),
        visitors_deleted=visitors_deleted,
        snapshots_removed=snapshots_removed,
        runs_removed=runs_removed,
        data_docs_removed=data_docs_removed,
        windows_reconciled=reconciled,
        windows_unbalanced=unbalanced,
        rows_released=rows_released,
        rows_held=_rows_held(engine),
        open_transaction_minutes=open_transaction_minutes,
    )
    _vacuum(engine)
    logger.info("housekeeping: %s", report)
    return report


def _make_partitions(engine: sa.Engine, settings: Settings) -> int:
    """Create future partitions. If a lock is not available, alert and go on with the other tasks."""
    made = 0
    for table in ("feedback", "impressions"):
        try:
            made += ensure_ahead(engine, PARTITIONS_AHEAD_MONTHS, table=table)
        except ServiceUnavailableError as error:
            send_alert(settings, str(error))
    return made


def _retire_partitions(engine: sa.Engine, settings: Settings) -> int:
    months = settings.retention.feedback_months
    if months is None:
        return 0
    try:
        return retire_months(engine, months)
    except ServiceUnavailableError as error:
        send_alert(settings, str(error))
        return 0


def _delete_old_impressions(engine: sa.Engine, settings: Settings) -> int:
    try:
        return delete_old_impressions(engine, settings)
    except ServiceUnavailableError as error:
        send_alert(settings, str(error))
        return 0


def _check_oldest_transaction(engine: sa.Engine, settings: Settings) -> int:
    """Alert if a transaction left open holds back windows; return its age in minutes."""
    holder = find_horizon_holder(engine)
    if holder is None:
        return 0
    if holder.minutes > settings.alerts.max_open_transaction_minutes:
        send_alert(
            settings,
            f"windows of feedback are held back by {holder}; the limit is "
            "RECSYS_ALERTS__MAX_OPEN_TRANSACTION_MINUTES",
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
            send_alert(settings, f"row counts of window {window_id} do not match: {result}")
    return len(window_ids), unbalanced


def _open_erasure_requests(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        waiting = connection.scalar(
            sa.select(sa.func.count()).where(erasure_requests.c.status == "requested")
        )
    return int(waiting or 0)


def _rows_held(engine: sa.Engine) -> int:
    held = sa.select(sa.func.count()).select_from(quarantine).where(quarantine.c.status == "held")
    with engine.connect() as connection:
        return int(connection.scalar(held) or 0)


def _remove_old_snapshots(engine: sa.Engine, settings: Settings, now: datetime) -> int:
    """Remove the files of old snapshots. Their rows in the table stay: they document what models learned.

    The latest snapshot of each kind and the one the champion was trained on are kept.
    """
    from recsys.snapshot.erasure import snapshot_folders, unfinished_folders

    with hold_lock(engine, SNAPSHOT_FILES), engine.connect() as connection:
        statement = sa.text(read_statement("upkeep/select_expired_snapshots"))
        expired = set(connection.scalars(statement, {"days": settings.retention.snapshots_days}))
        old = [folder for folder in snapshot_folders(settings.snapshots) if folder.uri in expired]
        abandoned = [
            folder
            for folder in unfinished_folders(settings.snapshots)
            if _last_written(folder, default=now) < now - _UNFINISHED_AFTER
        ]
        for folder in (*old, *abandoned):
            folder.remove()
    return len(old) + len(abandoned)


def _last_written(folder: Folder, default: datetime) -> datetime:
    """Return when a snapshot's files, or its folder if it is local and has no files, were last written."""
    written = [folder.fs.modified(path) for path in folder.fs.find(folder.path)]
    if not written and folder.is_local:
        written.append(folder.fs.modified(folder.path))
    return max(written, default=default)


def _remove_old_folders(folders: Iterable[Path], before: datetime) -> int:
    """Remove folders that were last written before a moment; return how many."""
    removed = 0
    for folder in folders:
        if folder.is_dir() and _modified(folder) < before:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _remove_abandoned_shards(settings: Settings, now: datetime) -> None:
    """Remove events that a killed fine-tune left on disk, because erasure waits until they are gone."""
    from recsys.snapshot.shards import shard_folders

    for folder in shard_folders(settings.runs):
        if _modified(folder.parent) < now - _UNFINISHED_AFTER:
            shutil.rmtree(folder, ignore_errors=True)


def _modified(folder: Path) -> datetime:
    """Return when something in a folder was last written."""
    seconds = folder.stat().st_mtime
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # removed in the meantime
            seconds = max(seconds, path.stat().st_mtime)
    return datetime.fromtimestamp(seconds, UTC)


def _forget_old_fresh_feedback(engine: sa.Engine) -> None:
    """Delete what publications leave, or all that is old if there are none."""
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        connection.execute(sa.text(read_statement("upkeep/delete_old_fresh_feedback")))


def _vacuum(engine: sa.Engine) -> None:
    """Vacuum the busiest tables and update their statistics.

    Autovacuum does not analyze partitioned tables. Histories are read by index-only scans where a vacuum
    has marked pages as all-visible; it skips pages that are already marked.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            sa.text("VACUUM (ANALYZE, SKIP_LOCKED) feedback, impressions, users, items, quarantine")
        )
