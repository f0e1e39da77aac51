"""Replaces the key that turns user ids into the names that leave the warehouse."""

import logging
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from recsys.errors import WarehouseError
from recsys.settings import Settings
from recsys.upkeep.erasure import erase_requested
from recsys.warehouse.pseudonyms import fill_user_keys
from recsys.warehouse.tables import erasure_requests, users

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RotationReport:
    """What a rotation changed."""

    users: int
    snapshots_removed: int


def rotate_user_keys(engine: sa.Engine, settings: Settings) -> RotationReport:
    """Give every user a new name, made with the key that is configured now.

    Snapshots name users by the old key, and nobody could find a user in them any more to forget them:
    their files are removed, their rows in the table `snapshots` stay as evidence. The same holds for the
    figures that evaluations keep by user. No DAG may run
    meanwhile. Killed at any point, another call completes the work.

    Raises
    ------
    ConfigurationError
        No key is configured.
    WarehouseError
        Requests to be forgotten are open that need the old names.
    """
    from recsys.registry.evaluation_files import erase_from_evaluations
    from recsys.snapshot.erasure import snapshot_folders, unfinished_folders

    key = settings.require_pseudonym_key()
    erase_requested(engine, settings.snapshots, partial(erase_from_evaluations, settings), settings.runs)
    # Figures by user of past evaluations name users by the old key as well.
    erase_from_evaluations(settings, None)
    with engine.begin() as connection:
        waiting = connection.scalar(
            sa.select(sa.func.count()).where(erasure_requests.c.status == "requested")
        )
        if waiting:
            raise WarehouseError(
                f"{waiting} erasure requests wait for a snapshot that is being written and need the old "
                "names of their users: pause the DAGs, let their runs end or remove unfinished snapshots, "
                "and rotate again"
            )
        connection.execute(users.update().where(users.c.user_key.is_not(None)).values(user_key=None))
    folders = [*snapshot_folders(settings.snapshots), *unfinished_folders(settings.snapshots)]
    removed = {folder.uri for folder in folders}
    for folder in folders:
        folder.remove()
    report = RotationReport(fill_user_keys(engine, key), len(removed))
    logger.info("user keys rotated: %s", report)
    return report
