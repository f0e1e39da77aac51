"""Go back to an earlier champion, for a reason that the ledger keeps."""

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
    """Make an earlier champion the champion again; publishing then follows the ledger.

    Parameters
    ----------
    reason
        Why, in the person's words.
    actor
        Who asked for it.
    to
        A version that has been champion; None: the one that the champion replaced. Going back twice
        goes back two versions.
    run_key
        The run that does it; a retry finds the entry of its first attempt.

    Raises
    ------
    RegistryError
        There is nothing to go back to, or the version is unknown, was never champion or its files are
        not those that were registered. Nothing is changed.
    PromotionConflictError
        Another version has become champion at the same moment. Nothing is changed.
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
        raise RegistryError("there is no champion yet, so nothing to roll back; run nightly_training first")
    if not reason.strip():
        raise RegistryError("a rollback needs a reason: others will read it in the ledger")
    target = to or ledger.replaced_by(engine, current.model_version)
    if target is None:
        raise RegistryError(
            f"version {current.model_version} is the first champion: there is no earlier one to go back to"
        )
    if target == current.model_version:
        raise RegistryError(f"version {target} is champion already")
    if not ledger.was_champion(engine, target):
        raise RegistryError(
            f"version {target} has never been champion; `recsys history` lists those that have, and "
            f"`recsys promote {target}` makes it champion for the first time"
        )
    # Before anything changes: going back to files that are broken would leave nothing to publish.
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
