"""Carry out decisions: write the ledger first, then move the MLflow alias to match it.

The ledger is the truth. A crash between the two leaves an outdated alias; the next promotion, a retry or
`reconcile_alias` repairs it.
"""

import logging
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from mlflow.exceptions import MlflowException
from pydantic_core import to_jsonable_python

from recsys.errors import ErasedUsersError, RegistryError
from recsys.promotion import ledger
from recsys.promotion.decision import REJECT, Decision
from recsys.promotion.ledger import LedgerEntry
from recsys.promotion.outcome import OUTCOMES, change_outcome, state
from recsys.promotion.serving_term import REASON, refuse_if_over
from recsys.registry.connection import is_missing, mlflow_client, mlflow_errors
from recsys.registry.description import describe_decision
from recsys.registry.versions import (
    CHALLENGER_ALIAS,
    CHAMPION_ALIAS,
    load_version,
    tag_version,
)
from recsys.settings import Settings
from recsys.warehouse.advisory_locks import MODEL_REGISTRY, hold_lock

logger = logging.getLogger(__name__)


def promote(
    engine: sa.Engine,
    settings: Settings,
    version: str,
    expected_champion: str | None,
    *,
    reason: str,
    explanation: str,
    checks: list[dict[str, Any]] | None = None,
    actor: str,
    run_key: str | None = None,
    now: datetime | None = None,
) -> LedgerEntry:
    """Make a version champion; a retry is safe.

    Parameters
    ----------
    now
        Moment for which the version's term is checked; None: the present.

    Raises
    ------
    ErasedUsersError
        The version knows users who were erased, and its time is over. The ledger says so.
    PromotionConflictError
        Another version has become champion since the decision. Nothing is changed.
    RegistryError
        The version is unknown. Nothing is changed.
    ServiceUnavailableError
        MLflow does not answer. Nothing is changed, or only the ledger: `reconcile_alias` moves the alias.
    """
    with hold_lock(engine, MODEL_REGISTRY):
        load_version(settings, version)
        _refuse(engine, settings, version, actor=actor, run_key=run_key, now=now or datetime.now(UTC))
        entry = ledger.promote(
            engine,
            version,
            expected_champion,
            reason=reason,
            explanation=explanation,
            checks=checks,
            actor=actor,
            run_key=run_key,
        )
        follow_ledger(engine, settings)
    return entry


def _refuse(
    engine: sa.Engine, settings: Settings, version: str, *, actor: str, run_key: str | None, now: datetime
) -> None:
    """Raise ErasedUsersError if the version's time is over; record a person's attempt.

    A run records its decision itself. What a run has already promoted is not refused to its retry.
    """
    earlier = None if run_key is None else ledger.decision_of_run(engine, run_key)
    if earlier is not None and earlier.action == "promote":
        return
    try:
        refuse_if_over(engine, settings, version, now)
    except ErasedUsersError as refusal:
        if run_key is None:
            ledger.record_decision(
                engine,
                action="reject",
                version=version,
                reason=REASON,
                explanation=f"{OUTCOMES[REJECT]}: {refusal}.",
                actor=actor,
            )
        raise


def carry_out(
    engine: sa.Engine,
    settings: Settings,
    decision: Decision,
    version: str,
    *,
    actor: str,
    run_key: str | None = None,
    now: datetime | None = None,
) -> LedgerEntry:
    """Carry out a decision and record it in the ledger and on the model version.

    A promotion becomes a rejection if the version may not be served any more, see `promote`.
    """
    decision = state(decision)
    checks = to_jsonable_python(decision.checks)
    if decision.action == "ask":
        raise RegistryError(
            f"version {version} waits for approval; there is nothing to carry out before the answer"
        )
    if decision.action == "promote":
        try:
            entry = promote(
                engine,
                settings,
                version,
                decision.expected_champion,
                reason=decision.reason,
                explanation=decision.explanation,
                checks=checks,
                actor=actor,
                run_key=run_key,
                now=now,
            )
        except ErasedUsersError as refusal:
            refused = change_outcome(decision, REJECT, REASON, f"{refusal}.")
            return carry_out(engine, settings, refused, version, actor=actor, run_key=run_key)
    else:
        entry = ledger.record_decision(
            engine,
            action=decision.action,
            version=version,
            reason=decision.reason,
            explanation=decision.explanation,
            checks=checks,
            actor=actor,
            run_key=run_key,
        )
    describe_decision(settings, version, decision.explanation)
    tag_version(
        settings,
        version,
        {
            "recsys.decision": decision.action,
            "recsys.decision_reason": decision.reason,
        },
    )
    return entry


def reconcile_alias(engine: sa.Engine, settings: Settings) -> str | None:
    """Move the alias `champion` to the ledger's champion; return its version, None without one."""
    with hold_lock(engine, MODEL_REGISTRY):
        return follow_ledger(engine, settings)


def follow_ledger(engine: sa.Engine, settings: Settings) -> str | None:
    """Do the work of `reconcile_alias` for a caller who holds the lock `MODEL_REGISTRY`."""
    current = ledger.champion(engine)
    client = mlflow_client(settings)
    name = settings.registered_model
    with mlflow_errors(settings, "move the alias champion"):
        try:
            aliases = client.get_registered_model(name).aliases
        except MlflowException as error:
            if current is not None or not is_missing(error):
                raise
            return None
        named = str(aliases[CHAMPION_ALIAS]) if CHAMPION_ALIAS in aliases else None
        if current is None:
            if named is not None:
                logger.warning("removed the alias champion from version %s, which was never promoted", named)
                client.delete_registered_model_alias(name, CHAMPION_ALIAS)
            return None
        if named != current.model_version:
            logger.info("moving the alias champion from version %s to %s", named, current.model_version)
            client.set_registered_model_alias(name, CHAMPION_ALIAS, current.model_version)
        if str(aliases.get(CHALLENGER_ALIAS)) == current.model_version:
            client.delete_registered_model_alias(name, CHALLENGER_ALIAS)
    return current.model_version
