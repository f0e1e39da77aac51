"""Find damaged snapshots and remove them, so that they are taken anew."""

import logging

import sqlalchemy as sa

from recsys.errors import SnapshotError
from recsys.snapshot.manifest import MANIFEST_NAME
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.store import Folder
from recsys.warehouse.advisory_locks import SNAPSHOT_FILES, hold_lock

logger = logging.getLogger(__name__)


def discard_damaged(engine: sa.Engine, folder: Folder) -> None:
    """Remove a finished snapshot if a file is missing or differs from its digest in the manifest.

    Every file is read. A sound snapshot, or none, stays as it is.
    """
    if _damage(folder) is None:
        return
    with hold_lock(engine, SNAPSHOT_FILES):
        # Again: an erasure may have rewritten the snapshot while it was read.
        if (damage := _damage(folder)) is not None:
            logger.warning("removing a damaged snapshot: %s", damage)
            folder.remove()


def _damage(folder: Folder) -> SnapshotError | None:
    if folder.exists(MANIFEST_NAME):
        try:
            read_snapshot(folder.uri)
        except SnapshotError as error:
            return error
    return None
