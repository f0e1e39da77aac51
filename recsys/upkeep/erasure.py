"""Erase users from tables, recommendations, vectors, snapshots and the figures of evaluations.

Tables are erased first, in one transaction per user. After that no new snapshot can contain the user.
Files follow. A request is done once no snapshot is being written that may have read the rows earlier. The
receipt then contains neither the user id nor its keyed hash.

One erasure runs at a time. The receipts are written through the connection that holds the lock, so a process
that has lost the lock writes none.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from recsys.errors import ServiceUnavailableError
from recsys.settings import Settings
from recsys.warehouse.advisory_locks import (
    FEEDBACK_MOVES,
    SLATES_BY_DAY,
    SNAPSHOT_FILES,
    block_partition_moves,
    lock,
)
from recsys.warehouse.erased_users import remember_erased
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import erasure_requests, snapshots, users

logger = logging.getLogger(__name__)


class ErasureReceipt(BaseModel):
    """What an erasure removed, without naming the user."""

    model_config = ConfigDict(frozen=True)

    request_id: int
    requested_at: datetime
    done_at: datetime
    rows_removed: dict[str, int] = Field(description="rows by table")
    snapshots_rewritten: int
    snapshot_rows_removed: int
    evaluation_rows_removed: int = Field(description="rows of the per-user figures of evaluations")


def request_erasure(engine: sa.Engine, user_id: str) -> int:
    """Record an erasure request and return its id. Training excludes the user from now on.

    If the user already has an open request, its id is returned.
    """
    with engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE erasure_requests IN SHARE ROW EXCLUSIVE MODE"))
        connection.execute(users.update().where(users.c.user_id == user_id).values(consent=False))
        known = connection.scalar(
            sa.select(erasure_requests.c.request_id).where(
                erasure_requests.c.user_id == user_id, erasure_requests.c.status == "requested"
            )
        )
        if known is not None:
            return int(known)
        key = sa.select(users.c.user_key).where(users.c.user_id == user_id).scalar_subquery()
        inserted = connection.execute(
            erasure_requests.insert()
            .values(user_id=user_id, user_key=key)
            .returning(erasure_requests.c.request_id)
        )
        return int(inserted.scalar_one())


def erase_everywhere(
    engine: sa.Engine, settings: Settings, on_damage: Callable[[str], object] | None = None
) -> list[ErasureReceipt]:
    """Carry out all open requests in the warehouse, on disk and in MLflow; see `erase_requested`."""
    from recsys.registry.evaluation_files import erase_from_evaluations

    return erase_requested(
        engine,
        settings.snapshots,
        partial(erase_from_evaluations, settings),
        settings.runs,
        on_damage,
        tombstone_key=settings.require_pseudonym_key,
    )


def erase_requested(
    engine: sa.Engine,
    snapshots_root: str,
    erase_evaluations: Callable[[Collection[str]], Mapping[str, int]] | None = None,
    runs: Path | None = None,
    on_damage: Callable[[str], object] | None = None,
    tombstone_key: Callable[[], bytes] | None = None,
) -> list[ErasureReceipt]:
    """Carry out all open requests and return the receipts of those that are done.

    A request stays open while a snapshot is being written that may contain the user, while a damaged
    snapshot cannot be searched, while a fine-tune keeps events on disk because they do not fit into memory,
    or while MLflow is unavailable. Call again later. If the process is killed at any point, the next call
    completes the work.

    Parameters
    ----------
    snapshots_root
        `Settings.snapshots`.
    erase_evaluations
        Takes user keys, removes their rows from the figures of evaluations and returns the number of
        removed rows by user key. None: there are no evaluations.
    runs
        `Settings.runs`. None: no fine-tune keeps events on disk.
    on_damage
        Takes a message about each damaged snapshot, which is then removed: nothing can read it, and the user
        may be in it. None: damaged snapshots stay, and requests wait.
    tombstone_key
        `Settings.require_pseudonym_key`; called if there are requests. Files that are loaded later cannot
        bring back who was erased with it. None: they can.
    """
    with engine.begin() as connection:
        # The transaction has no id until it writes the receipts: windows of feedback do not wait for it.
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        lock(connection, SNAPSHOT_FILES)
        return _erase_requested(
            engine, connection, snapshots_root, erase_evaluations, runs, on_damage, tombstone_key
        )


def find_receipt(engine: sa.Engine, request_id: int) -> ErasureReceipt | None:
    """Return the receipt of a request, whoever carried it out; None if it is still open."""
    query = sa.select(erasure_requests).where(
        erasure_requests.c.request_id == request_id, erasure_requests.c.status == "done"
    )
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else _receipt(row)


def _erase_requested(
    engine: sa.Engine,
    connection: sa.Connection,
    snapshots_root: str,
    erase_evaluations: Callable[[Collection[str]], Mapping[str, int]] | None,
    runs: Path | None,
    on_damage: Callable[[str], object] | None,
    tombstone_key: Callable[[], bytes] | None,
) -> list[ErasureReceipt]:
    open_requests = _erase_rows(engine, tombstone_key)
    if not open_requests:
        return []
    from recsys.snapshot.erasure import ErasedSnapshots, erase_from_snapshots, unfinished_folders
    from recsys.snapshot.shards import shard_folders
    from recsys.snapshot.store import Folder

    # List unfinished snapshots first: one that finishes in the meantime is then found as a finished one.
    in_progress = unfinished_folders(snapshots_root)
    keys = {request.user_key for request in open_requests if request.user_key is not None}
    erased = erase_from_snapshots(snapshots_root, keys) if keys else ErasedSnapshots([], {})
    evaluated: Mapping[str, int] = {}
    waits_for = f"{len(in_progress)} unfinished snapshots" if in_progress else ""
    for uri, damage in erased.damaged.items():
        if on_damage is None:
            waits_for = f"a damaged snapshot, which housekeeping removes: {damage}"
        else:
            on_damage(f"a damaged snapshot is removed, because an erased user may be in it: {damage}")
            Folder(uri).remove()
    # After the snapshots are rewritten: a fine-tune that starts now reads them without the user.
    if runs is not None and (training := shard_folders(runs)):
        waits_for = f"the fine-tune that keeps events in {training[0]}"
    if keys and erase_evaluations is not None:
        try:
            # After the snapshots are rewritten: a running evaluation checks its snapshot when it ends.
            evaluated = erase_evaluations(keys)
        except ServiceUnavailableError as error:
            waits_for = str(error)
    for snapshot in erased.rewritten:
        connection.execute(
            snapshots.update()
            .where(snapshots.c.uri == snapshot.uri)
            .values(digest=snapshot.digest, rows=snapshot.rows)
        )
    for request in open_requests:
        theirs = [snapshot.removed.get(request.user_key, 0) for snapshot in erased.rewritten]
        _add_to_receipt(
            connection,
            request.request_id,
            snapshots_rewritten=sum(rows > 0 for rows in theirs),
            snapshot_rows_removed=sum(theirs),
            evaluation_rows_removed=evaluated.get(request.user_key, 0),
        )
    if waits_for:
        logger.warning("%d erasure requests wait for %s", len(open_requests), waits_for)
        return []
    done = connection.execute(
        erasure_requests.update()
        .where(erasure_requests.c.request_id.in_([request.request_id for request in open_requests]))
        .values(status="done", done_at=sa.func.clock_timestamp(), user_id=None, user_key=None)
        .returning(erasure_requests)
    ).all()
    return [_receipt(row) for row in sorted(done, key=lambda row: row.request_id)]


def _receipt(row: sa.Row[Any]) -> ErasureReceipt:
    return ErasureReceipt(
        request_id=row.request_id,
        requested_at=row.requested_at,
        done_at=row.done_at,
        rows_removed=row.receipt["rows_removed"],
        snapshots_rewritten=row.receipt["snapshots_rewritten"],
        snapshot_rows_removed=row.receipt["snapshot_rows_removed"],
        evaluation_rows_removed=row.receipt["evaluation_rows_removed"],
    )


def _erase_rows(
    engine: sa.Engine, tombstone_key: Callable[[], bytes] | None
) -> list[sa.Row[tuple[int, str, str]]]:
    """Delete the rows of all open requests, one transaction per request; return the requests."""
    columns = (erasure_requests.c.request_id, erasure_requests.c.user_id, erasure_requests.c.user_key)
    query = sa.select(*columns).where(erasure_requests.c.status == "requested")
    with engine.connect() as connection:
        request_ids = list(connection.scalars(query.order_by(erasure_requests.c.request_id)))
    key_of_tombstones = tombstone_key() if tombstone_key is not None and request_ids else None
    done = []
    for request_id in request_ids:  # the sessions of a user are added on the way
        with engine.begin() as connection:
            # Without these locks, rows moving to or from quarantine or to a partition would be missed.
            lock(connection, FEEDBACK_MOVES)
            lock(connection, SLATES_BY_DAY)
            block_partition_moves(connection)
            # The user may have got the hash after the request was made; files are searched by hash.
            key = (
                sa.select(users.c.user_key)
                .where(users.c.user_id == erasure_requests.c.user_id)
                .scalar_subquery()
            )
            request = connection.execute(
                erasure_requests.update()
                .where(erasure_requests.c.request_id == request_id, erasure_requests.c.status == "requested")
                .values(user_key=sa.func.coalesce(key, erasure_requests.c.user_key))
                .returning(*columns)
            ).one_or_none()
            if request is None:  # another process has already done it
                continue
            # A login that joins a session to this user now waits, and then finds no user.
            connection.execute(
                sa.select(users.c.user_id).where(users.c.user_id == request.user_id).with_for_update()
            )
            request_ids += connection.scalars(
                sa.text(read_statement("upkeep/request_erasure_of_sessions")), {"request_id": request_id}
            )
            if key_of_tombstones is not None:
                remember_erased(connection, request.user_id, key_of_tombstones)
            removed = connection.execute(
                sa.text(read_statement("upkeep/erase_user")),
                {"request_id": request_id, "user_id": request.user_id},
            ).one()
            forget = sa.text(read_statement("upkeep/forget_changes_of_people"))
            connection.execute(forget, {"user_ids": [request.user_id]})
            _add_to_receipt(connection, request_id, rows_removed=dict(removed._mapping))
            done.append(request)
    return done


def _add_to_receipt(connection: sa.Connection, request_id: int, **removed: int | dict[str, int]) -> None:
    """Add counts to those of earlier, interrupted calls."""
    this = erasure_requests.c.request_id == request_id
    receipt = connection.scalar(sa.select(erasure_requests.c.receipt).where(this)) or {}
    for name, count in removed.items():
        if isinstance(count, dict):
            before = receipt.get(name, {})
            receipt[name] = {table: before.get(table, 0) + rows for table, rows in count.items()}
        else:
            receipt[name] = receipt.get(name, 0) + count
    connection.execute(erasure_requests.update().where(this).values(receipt=receipt))
