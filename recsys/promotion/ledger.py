"""The promotion ledger: the append-only record of which version is champion, since when and why.

Changes of champion have sequence numbers 1, 2, ... A change takes the last number plus one, and numbers are
unique. Of two promotions that start from the same champion only one can be written: compare-and-swap
without locks.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from recsys.errors import PromotionConflictError, RegistryError
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import promotion_ledger

LedgerAction = Literal["promote", "hold", "reject", "roll_back", "experiment"]


@dataclass(frozen=True)
class Champion:
    """The version that is served, and its last change in the ledger."""

    model_version: str
    sequence: int
    since: datetime
    previous: str | None
    action: LedgerAction
    reason: str
    actor: str


@dataclass(frozen=True)
class LedgerEntry:
    """A recorded decision."""

    ledger_id: int
    decided_at: datetime
    action: LedgerAction
    model_version: str
    previous_champion: str | None
    champion_sequence: int | None
    reason: str
    explanation: str
    checks: list[dict[str, Any]]
    actor: str
    run_key: str | None


def champion(engine: sa.Engine) -> Champion | None:
    """Return the champion, or None before the first promotion."""
    with engine.connect() as connection:
        return _champion(connection)


def champion_at(engine: sa.Engine, moment: datetime) -> str | None:
    """Return the version that was champion at a moment; None before the first promotion."""
    with engine.connect() as connection:
        version = connection.scalar(
            sa.text(read_statement("promotion/select_champion_at")), {"moment": moment}
        )
    return None if version is None else str(version)


def history(engine: sa.Engine, limit: int = 50) -> list[LedgerEntry]:
    """Return the latest decisions, newest first."""
    statement = sa.select(promotion_ledger).order_by(promotion_ledger.c.ledger_id.desc()).limit(limit)
    with engine.connect() as connection:
        return [_entry(row) for row in connection.execute(statement)]


def latest_champions(engine: sa.Engine, count: int) -> list[str]:
    """Return the latest distinct champions, the current one first."""
    ledger = promotion_ledger.c
    statement = (
        sa.select(ledger.model_version)
        .where(ledger.champion_sequence.is_not(None))
        .group_by(ledger.model_version)
        .order_by(sa.func.max(ledger.champion_sequence).desc())
        .limit(count)
    )
    with engine.connect() as connection:
        return list(connection.scalars(statement))


def was_champion(engine: sa.Engine, version: str) -> bool:
    """Return whether a version is or was champion."""
    ledger = promotion_ledger.c
    statement = sa.select(ledger.ledger_id).where(
        ledger.model_version == version, ledger.champion_sequence.is_not(None)
    )
    with engine.connect() as connection:
        return connection.execute(statement.limit(1)).first() is not None


def replaced_by(engine: sa.Engine, version: str) -> str | None:
    """Return the champion that `version` replaced when it was last promoted; None without one.

    Rollbacks do not count, so two rollbacks go back two versions.
    """
    ledger = promotion_ledger.c
    statement = (
        sa.select(ledger.previous_champion)
        .where(ledger.model_version == version, ledger.action == "promote")
        .order_by(ledger.champion_sequence.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(statement).first()
    return None if row is None else row[0]


def record_decision(
    engine: sa.Engine,
    *,
    action: Literal["hold", "reject"],
    version: str,
    reason: str,
    explanation: str,
    checks: list[dict[str, Any]] | None = None,
    actor: str,
    run_key: str | None = None,
) -> LedgerEntry:
    """Record a decision that keeps the champion; a retry finds the entry of the first attempt."""
    with engine.begin() as connection:
        if (earlier := _decision_of_run(connection, run_key, version, action)) is not None:
            return earlier
        current = _champion(connection)
        return _insert(
            connection,
            action=action,
            model_version=version,
            previous_champion=current.model_version if current else None,
            champion_sequence=None,
            reason=reason,
            explanation=explanation,
            checks=checks or [],
            actor=actor,
            run_key=run_key,
        )


def change_champion(
    engine: sa.Engine,
    *,
    action: Literal["promote", "roll_back"],
    version: str,
    expected_champion: str | None,
    reason: str,
    explanation: str,
    checks: list[dict[str, Any]] | None = None,
    actor: str,
    run_key: str | None = None,
) -> LedgerEntry:
    """Make `version` champion if the champion is still `expected_champion`.

    Parameters
    ----------
    expected_champion
        The champion that the decision is based on; None: no champion yet.
    run_key
        The run that decides. A retry finds the entry of its first attempt even if the champion has changed
        since: a decision is carried out once. None for a person at the command line.

    Returns
    -------
    LedgerEntry
        The new entry, or the earlier one when nothing is left to do.

    Raises
    ------
    PromotionConflictError
        Another version has become champion in the meantime. Nothing is changed.
    """
    try:
        with engine.begin() as connection:
            if (earlier := _decision_of_run(connection, run_key, version, action)) is not None:
                return earlier
            current = _champion(connection)
            if current is not None and current.model_version == version:
                return _entry_of_sequence(connection, current.sequence)
            if (current.model_version if current else None) != expected_champion:
                raise _conflict(version, expected_champion, current)
            return _insert(
                connection,
                action=action,
                model_version=version,
                previous_champion=expected_champion,
                champion_sequence=current.sequence + 1 if current else 1,
                reason=reason,
                explanation=explanation,
                checks=checks or [],
                actor=actor,
                run_key=run_key,
            )
    except IntegrityError as error:
        # Another process wrote the same sequence number or run between this read and this write.
        with engine.connect() as connection:
            if (earlier := _decision_of_run(connection, run_key, version, action)) is not None:
                return earlier
            raise _conflict(version, expected_champion, _champion(connection)) from error


def promote(
    engine: sa.Engine,
    version: str,
    expected_champion: str | None,
    *,
    reason: str,
    explanation: str,
    checks: list[dict[str, Any]] | None = None,
    actor: str,
    run_key: str | None = None,
) -> LedgerEntry:
    """Record a promotion; see `change_champion`. `recsys.promotion.promote` moves the MLflow alias."""
    return change_champion(
        engine,
        action="promote",
        version=version,
        expected_champion=expected_champion,
        reason=reason,
        explanation=explanation,
        checks=checks,
        actor=actor,
        run_key=run_key,
    )


def record_experiment(
    connection: sa.Connection,
    *,
    version: str,
    reason: str,
    explanation: str,
    checks: list[dict[str, Any]],
    actor: str,
) -> LedgerEntry:
    """Record the start or the end of an experiment with a version, in the caller's transaction.

    Parameters
    ----------
    checks
        The evidence of an end.
    """
    current = _champion(connection)
    return _insert(
        connection,
        action="experiment",
        model_version=version,
        previous_champion=current.model_version if current else None,
        champion_sequence=None,
        reason=reason,
        explanation=explanation,
        checks=checks,
        actor=actor,
        run_key=None,
    )


def decision_of_run(engine: sa.Engine, run_key: str) -> LedgerEntry | None:
    """Return the decision of a run; None before it has decided."""
    statement = sa.select(promotion_ledger).where(promotion_ledger.c.run_key == run_key)
    with engine.connect() as connection:
        row = connection.execute(statement).first()
    return None if row is None else _entry(row)


def _champion(connection: sa.Connection) -> Champion | None:
    ledger = promotion_ledger.c
    row = connection.execute(
        sa.select(promotion_ledger)
        .where(ledger.champion_sequence.is_not(None))
        .order_by(ledger.champion_sequence.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    return Champion(
        model_version=row.model_version,
        sequence=row.champion_sequence,
        since=row.decided_at,
        previous=row.previous_champion,
        action=row.action,
        reason=row.reason,
        actor=row.actor,
    )


def _decision_of_run(
    connection: sa.Connection, run_key: str | None, version: str, action: LedgerAction
) -> LedgerEntry | None:
    if run_key is None:
        return None
    row = connection.execute(sa.select(promotion_ledger).where(promotion_ledger.c.run_key == run_key)).first()
    if row is None:
        return None
    if (row.action, row.model_version) != (action, version):
        raise RegistryError(
            f"run {run_key} has already decided to {row.action} version {row.model_version}, so it cannot "
            f"{action} version {version}; start a new run"
        )
    return _entry(row)


def _entry_of_sequence(connection: sa.Connection, sequence: int) -> LedgerEntry:
    return _entry(
        connection.execute(
            sa.select(promotion_ledger).where(promotion_ledger.c.champion_sequence == sequence)
        ).one()
    )


def _insert(connection: sa.Connection, **values: Any) -> LedgerEntry:
    statement = sa.insert(promotion_ledger).values(values).returning(promotion_ledger)
    return _entry(connection.execute(statement).one())


def _entry(row: sa.Row[Any]) -> LedgerEntry:
    return LedgerEntry(**row._asdict())


def _conflict(version: str, expected: str | None, current: Champion | None) -> PromotionConflictError:
    def named(value: str | None) -> str:
        return f"version {value}" if value else "no version"

    return PromotionConflictError(
        f"version {version} was compared with {named(expected)} as champion, but "
        f"{named(current.model_version if current else None)} is champion now; evaluate it again"
    )
