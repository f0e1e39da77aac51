"""The warehouse table `snapshots`: each snapshot taken, and what a model trained on it knows."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recsys.errors import SnapshotError
from recsys.snapshot.damage import discard_damaged
from recsys.snapshot.manifest import MANIFEST_NAME
from recsys.snapshot.reference import SnapshotKind, SnapshotRef, TrainedThrough
from recsys.snapshot.store import Folder
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import snapshots


def record_snapshot(engine: sa.Engine, folder: Folder) -> SnapshotRef:
    """Record a finished snapshot and return its reference. Repeated calls update the same row."""
    manifest = folder.read_manifest()
    ref = SnapshotRef(folder.uri, manifest.digest, manifest.kind, manifest.rows, manifest.window_id)
    found = {
        "digest": ref.digest,
        "rows": ref.rows,
        "trained_transaction_id": manifest.trained_through.transaction_id,
        "trained_occurred_before": manifest.trained_through.occurred_before,
    }
    statement = insert(snapshots).values(window_id=ref.window_id, kind=ref.kind, uri=ref.uri, **found)
    # Housekeeping keeps the row when it removes a folder, and the snapshot may be taken again.
    with engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=[snapshots.c.uri], set_=found))
    return ref


def newest_full(engine: sa.Engine) -> SnapshotRef | None:
    """Return the newest full snapshot, if it is still on disk."""
    statement = (
        sa.select(snapshots.c.uri)
        .where(snapshots.c.kind == "full")
        .order_by(snapshots.c.created_at.desc(), snapshots.c.snapshot_id.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        uri = connection.scalar(statement)
    if uri is None or not (folder := Folder(uri)).exists(MANIFEST_NAME):
        return None
    manifest = folder.read_manifest()
    return SnapshotRef(folder.uri, manifest.digest, manifest.kind, manifest.rows, manifest.window_id)


def newest_trained_on(
    engine: sa.Engine, kind: SnapshotKind, model: TrainedThrough, *, after: int = 0
) -> SnapshotRef | None:
    """Return the newest snapshot on disk whose events a model has all trained on; None if there is none.

    The run that took the snapshot, and the fate of that run's model, do not matter.

    Parameters
    ----------
    model
        What the model has trained on.
    after
        The snapshot must know feedback beyond this transaction id.
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
            try:
                manifest = folder.read_manifest()
            except SnapshotError:
                discard_damaged(engine, folder)
                continue
            return SnapshotRef(folder.uri, manifest.digest, kind, manifest.rows, manifest.window_id)
    return None
