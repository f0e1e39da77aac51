"""The table `snapshots`: which snapshots there were, and what a model knows that was trained on each."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recsys.snapshot.manifest import MANIFEST_NAME
from recsys.snapshot.reference import SnapshotKind, SnapshotRef, TrainedThrough
from recsys.snapshot.store import Folder
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import snapshots


def record_snapshot(engine: sa.Engine, folder: Folder) -> SnapshotRef:
    """Record a finished snapshot, once however often it is called, and return its reference."""
    manifest = folder.read_manifest()
    ref = SnapshotRef(folder.uri, manifest.digest, manifest.kind, manifest.rows, manifest.window_id)
    found = {
        "digest": ref.digest,
        "rows": ref.rows,
        "trained_transaction_id": manifest.trained_through.transaction_id,
        "trained_occurred_before": manifest.trained_through.occurred_before,
    }
    statement = insert(snapshots).values(window_id=ref.window_id, kind=ref.kind, uri=ref.uri, **found)
    # Housekeeping keeps the rows of folders that it removes; such a snapshot may be taken again.
    with engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=[snapshots.c.uri], set_=found))
    return ref


def newest_known(
    engine: sa.Engine, kind: SnapshotKind, model: TrainedThrough, *, after: int = 0
) -> SnapshotRef | None:
    """Return the newest snapshot with nothing in it that a model has not trained on, if its files are there.

    Which run took it, and what became of that run's own model, does not matter.

    Parameters
    ----------
    model
        What the model has trained on.
    after
        Transaction id that the snapshot's knowledge must go beyond.
    """
    parameters = {
        "kind": kind,
        "trained_transaction_id": model.transaction_id,
        "trained_occurred_before": model.occurred_before,
        "after_transaction_id": after,
    }
    with engine.connect() as connection:
        uris = connection.scalars(sa.text(read_statement("snapshot/select_newest_known")), parameters).all()
    for folder in map(Folder, uris):
        if folder.exists(MANIFEST_NAME):
            manifest = folder.read_manifest()
            return SnapshotRef(folder.uri, manifest.digest, kind, manifest.rows, manifest.window_id)
    return None
