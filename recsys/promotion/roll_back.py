"""Roll back to an earlier champion and record the reason in the ledger."""

import sqlalchemy as sa

from recsys.errors import RegistryError
from recsys.promotion import ledger
from recsys.promotion.ledger import LedgerEntry
from recsys.promotion.promote import follow_ledger
from recsys.registry.versions import download_checkpoint
from recsys.settings import Settings
from recsys.warehouse.advisory_locks import MODEL_REGISTRY, hold_lock

REASON = "rolled_back"


def roll_back(
    engine: sa.Engine,
    settings: Settings,
    *,
    reason: str,
    actor: str,
    to: str | None = None,
    run_key: str | None = None,
) -> LedgerEntry:
    """Make an earlier champion the champion again; publishing follows the ledger.

    Parameters
    ----------
    reason
        The person's reason.
    actor
        The person who asked for it.
    to
        A version that has been champion; None: the version that the champion replaced. Two rollbacks go
        back two versions.
    run_key
        The run that rolls back; a retry finds the entry of its first attempt.

    Raises
    ------
    RegistryError
        There is no earlier champion, or the version is unknown, was never champion, or its files have
        changed since registration. Nothing is changed.
    PromotionConflictError
        Another version has become champion in the meantime. Nothing is changed.
    """
    with hold_lock(engine, MODEL_REGISTRY):
        if run_key is not None and (done := ledger.decision_of_run(engine, run_key)) is not None:
            follow_ledger(engine, settings)
            return done
        return _roll_back(engine, settings, reason, actor, to, run_key)


def _roll_back(
    engine: sa.Engine, settings: Settings, reason: str, actor: str, to: str | None, run_key: str | None
) -> LedgerEntry:
    current = ledger.champion(engine)
    if current is None:
        raise RegistryError("there is no champion to roll back; run nightly_training first")
    if not reason.strip():
        raise RegistryError("a rollback needs a reason, which the ledger shows to others")
    target = to or ledger.replaced_by(engine, current.model_version)
    if target is None:
        raise RegistryError(f"version {current.model_version} is the first champion: there is no earlier one")
    if target == current.model_version:
        raise RegistryError(f"version {target} is already champion")
    if not ledger.was_champion(engine, target):
        raise RegistryError(
            f"version {target} has never been champion; `recsys history` lists earlier champions, and "
            f"`recsys promote {target}` promotes it"
        )
    # Broken files must stop the rollback before it changes anything: they could not be published.
    download_checkpoint(settings, target)
    entry = ledger.change_champion(
        engine,
        action="roll_back",
        version=target,
        expected_champion=current.model_version,
        reason=REASON,
        explanation=reason.strip(),
        actor=actor,
        run_key=run_key,
    )
    follow_ledger(engine, settings)
    return entry
