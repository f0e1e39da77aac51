"""Roll back to an earlier champion and record the reason in the ledger."""

from datetime import UTC, datetime

import sqlalchemy as sa

from recsys.errors import ErasedUsersError, RegistryError
from recsys.promotion import ledger
from recsys.promotion.ledger import LedgerEntry
from recsys.promotion.outcome import OUTCOMES
from recsys.promotion.promote import follow_ledger
from recsys.promotion.serving_term import REASON as TRAINED_ON_ERASED_USERS
from recsys.promotion.serving_term import ServingTerm, refuse_if_over, serving_terms
from recsys.registry.versions import download_checkpoint
from recsys.settings import Settings
from recsys.warehouse.advisory_locks import MODEL_REGISTRY, hold_lock

REASON = "rolled_back"
_NAMED = 10
"""Most versions that are named as skipped; a day of hourly updates leaves dozens."""


def roll_back(
    engine: sa.Engine,
    settings: Settings,
    *,
    reason: str,
    actor: str,
    to: str | None = None,
    run_key: str | None = None,
    now: datetime | None = None,
) -> LedgerEntry:
    """Make an earlier champion the champion again; publishing follows the ledger.

    Parameters
    ----------
    reason
        The person's reason.
    actor
        The person who asked for it.
    to
        A version that has been champion; None: the version that the champion replaced, or the newest one
        before it that may still be served. Two rollbacks go back two versions.
    run_key
        The run that rolls back; a retry finds the entry of its first attempt.
    now
        Moment for which the terms of versions are checked; None: the present.

    Returns
    -------
    LedgerEntry
        Its explanation is the reason, with the versions that were skipped.

    Raises
    ------
    ErasedUsersError
        The version, or every earlier champion, knows users who were erased, and its time is over. The
        champion stays, and the ledger says why.
    RegistryError
        There is no earlier champion, or the version is unknown, was never champion, or its files have
        changed since registration. Nothing is changed.
    PromotionConflictError
        Another version has become champion in the meantime. Nothing is changed.
    """
    with hold_lock(engine, MODEL_REGISTRY):
        if run_key is not None and (done := ledger.decision_of_run(engine, run_key)) is not None:
            follow_ledger(engine, settings)
            if done.action == "reject":
                raise ErasedUsersError(done.explanation)
            return done
        return _roll_back(engine, settings, reason, actor, to, run_key, now or datetime.now(UTC))


def _roll_back(
    engine: sa.Engine,
    settings: Settings,
    reason: str,
    actor: str,
    to: str | None,
    run_key: str | None,
    now: datetime,
) -> LedgerEntry:
    current = ledger.champion(engine)
    if current is None:
        raise RegistryError("there is no champion to roll back; run nightly_training first")
    if not reason.strip():
        raise RegistryError("a rollback needs a reason, which the ledger shows to others")
    explanation = reason.strip()
    try:
        if to is None:
            target, skipped = _newest_that_may_be_served(engine, settings, current.model_version, now)
            if skipped:
                explanation += f" {_skipped(skipped)}."
        else:
            target = to
            _require_former_champion(engine, target, current.model_version)
            refuse_if_over(engine, settings, target, now)
    except ErasedUsersError as refusal:
        ledger.record_decision(
            engine,
            action="reject",
            version=to or current.model_version,
            reason=TRAINED_ON_ERASED_USERS,
            explanation=f"{OUTCOMES['reject']}: {refusal}. Asked for: {explanation}",
            actor=actor,
            run_key=run_key,
        )
        raise
    # Broken files must stop the rollback before it changes anything: they could not be published.
    download_checkpoint(settings, target)
    entry = ledger.change_champion(
        engine,
        action="roll_back",
        version=target,
        expected_champion=current.model_version,
        reason=REASON,
        explanation=explanation,
        actor=actor,
        run_key=run_key,
    )
    follow_ledger(engine, settings)
    return entry


def _require_former_champion(engine: sa.Engine, version: str, current: str) -> None:
    if version == current:
        raise RegistryError(f"version {version} is already champion")
    if not ledger.was_champion(engine, version):
        raise RegistryError(
            f"version {version} has never been champion; `recsys history` lists earlier champions, and "
            f"`recsys promote {version}` promotes it"
        )


def _newest_that_may_be_served(
    engine: sa.Engine, settings: Settings, current: str, now: datetime
) -> tuple[str, list[ServingTerm]]:
    """Return the version to go back to, and the terms of those that were skipped, newest first."""
    earlier: list[str] = []
    version = ledger.replaced_by(engine, current)
    while version is not None and version not in (current, *earlier):
        earlier.append(version)
        version = ledger.replaced_by(engine, version)
    if not earlier:
        raise RegistryError(f"version {current} is the first champion: there is no earlier one")
    terms = serving_terms(engine, settings, earlier)
    skipped: list[ServingTerm] = []
    for version in earlier:
        term = terms.get(version)
        if term is None or not term.is_over(now):
            return version, skipped
        skipped.append(term)
    raise ErasedUsersError(
        f"there is no version to go back to. {_skipped(skipped)}. Run nightly_training to replace {current}"
    )


def _skipped(terms: list[ServingTerm]) -> str:
    named = ", ".join(term.version for term in terms[:_NAMED])
    more = f" and {len(terms) - _NAMED} more" if len(terms) > _NAMED else ""
    return (
        f"Skipped {named}{more}: trained on users who asked to be erased, and not to be served since "
        f"{max(term.until for term in terms).astimezone(UTC):%Y-%m-%d}"
    )
