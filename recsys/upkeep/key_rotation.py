"""Replace the keyed hashes of user ids after the pseudonym key has changed."""

import logging
from dataclasses import dataclass

import sqlalchemy as sa

from recsys.errors import WarehouseError
from recsys.promotion import ledger
from recsys.settings import Settings
from recsys.upkeep.erasure import erase_everywhere
from recsys.warehouse.advisory_locks import SNAPSHOT_FILES, hold_lock
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.tables import erasure_requests, experiments, users

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RotationReport:
    """What a rotation changed."""

    users: int
    snapshots_removed: int


def rotate_user_keys(engine: sa.Engine, settings: Settings) -> RotationReport:
    """Give every user a new hash, made with the configured key.

    Snapshots contain the old hashes, so an erasure could no longer find a user in them. Their files are
    removed; their rows in the table `snapshots` stay. The per-user figures of evaluations are removed for
    the same reason. No DAG may run at the same time. If the process is killed at any point, the next call
    completes the work.

    Raises
    ------
    ConfigurationError
        No key is configured.
    WarehouseError
        Erasure requests are still open; they need the old hashes.
    """
    from recsys.registry.evaluation_files import erase_from_evaluations
    from recsys.snapshot.erasure import snapshot_folders, unfinished_folders

    key = settings.require_pseudonym_key()
    erase_everywhere(engine, settings)
    erase_from_evaluations(settings, None)
    with engine.begin() as connection:
        waiting = connection.scalar(
            sa.select(sa.func.count()).where(erasure_requests.c.status == "requested")
        )
        if waiting:
            raise WarehouseError(
                f"{waiting} erasure requests are still open and need the old hashes. Pause the DAGs, wait "
                "until their runs have ended or remove unfinished snapshots, and run this again"
            )
        _end_experiment(connection)
        connection.execute(users.update().where(users.c.user_key.is_not(None)).values(user_key=None))
    with hold_lock(engine, SNAPSHOT_FILES):
        folders = [*snapshot_folders(settings.snapshots), *unfinished_folders(settings.snapshots)]
        removed = {folder.uri for folder in folders}
        for folder in folders:
            folder.remove()
    report = RotationReport(fill_user_keys(engine, key), len(removed))
    logger.info("user keys rotated: %s", report)
    return report


def _end_experiment(connection: sa.Connection) -> None:
    """End the running experiment: the arm of a user follows from the user's hash."""
    why, actor = "the hashes of all users are replaced, so users would move between its arms", "recsys"
    ended = connection.execute(
        experiments.update()
        .where(experiments.c.ended_at.is_(None))
        .values(ended_at=sa.func.clock_timestamp(), ended_by=actor, outcome="keys_replaced", explanation=why)
        .returning(experiments.c.challenger)
    ).one_or_none()
    if ended is not None:
        ledger.record_experiment(
            connection,
            version=ended.challenger,
            reason="keys_replaced",
            explanation=why,
            checks=[],
            actor=actor,
        )
