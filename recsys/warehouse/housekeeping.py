"""What the warehouse needs every day: partitions, erasure, retention, reconciliation."""

import logging
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from recsys.alerts import send_alert
from recsys.settings import Settings
from recsys.warehouse.erasure import erase_requested
from recsys.warehouse.partitions import ensure_ahead
from recsys.warehouse.tables import erasure_requests, snapshots, windows
from recsys.warehouse.windows import reconcile_window

# A writer that has not finished after this long was killed.
_UNFINISHED_AFTER = timedelta(days=1)
_RECONCILED_DAYS = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HousekeepingReport:
    """What housekeeping did."""

    partitions_made: int
    erasures_done: int
    erasures_waiting: int
    snapshots_removed: int
    runs_removed: int
    windows_reconciled: int
    windows_unbalanced: list[int]

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain values."""
        return asdict(self)


def keep_house(engine: sa.Engine, settings: Settings) -> HousekeepingReport:
    """Do all daily chores; safe to run at any time and as often as wanted."""
    partitions_made = ensure_ahead(engine, settings.retention.partitions_ahead_months)
    snapshots_removed = _remove_old_snapshots(engine, settings)
    erased = erase_requested(engine, settings.snapshots)
    reconciled, unbalanced = _reconcile(engine, settings)
    report = HousekeepingReport(
        partitions_made=partitions_made,
        erasures_done=len(erased),
        erasures_waiting=_waiting(engine),
        snapshots_removed=snapshots_removed,
        runs_removed=_remove_old_runs(settings),
        windows_reconciled=reconciled,
        windows_unbalanced=unbalanced,
    )
    logger.info("housekeeping: %s", report)
    return report


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


def _remove_old_snapshots(engine: sa.Engine, settings: Settings) -> int:
    """Remove the files of old snapshots; their rows stay, as evidence of what models were trained on."""
    from recsys.snapshot.erasure import snapshot_folders, unfinished_folders

    now = datetime.now(UTC)
    keep_from = now - timedelta(days=settings.retention.snapshots_days)
    with engine.connect() as connection:
        created = {
            row.uri: row.created_at
            for row in connection.execute(sa.select(snapshots.c.uri, snapshots.c.created_at))
        }
    removed = 0
    for folder in snapshot_folders(settings.snapshots):
        if created.get(folder.uri, now) < keep_from:
            folder.remove()
            removed += 1
    for folder in unfinished_folders(settings.snapshots):
        if folder.fs.modified(folder.path) < now - _UNFINISHED_AFTER:
            folder.remove()
            removed += 1
    return removed


def _remove_old_runs(settings: Settings) -> int:
    """Remove folders of training runs in which nothing was written lately; MLflow has what they made."""
    oldest = time.time() - timedelta(days=settings.retention.training_runs_days).total_seconds()
    removed = 0
    for run in settings.runs.glob("*/*"):
        if run.is_dir() and max(_modified(path) for path in (run, *run.rglob("*"))) < oldest:
            shutil.rmtree(run, ignore_errors=True)
            removed += 1
    return removed


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # written and removed while we look
        return time.time()
