"""From a challenger to a decision, and back to an earlier champion."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.errors import NothingToDoError, PromotionConflictError
from recsys.pipeline.context import Context
from recsys.pipeline.references import Challenger, Decided, NewChampion
from recsys.promotion.decision import ASK, HOLD, Response

if TYPE_CHECKING:
    from recsys.evaluation.result import Evaluation
    from recsys.promotion.superiority import Superiority

logger = logging.getLogger(__name__)


def gate(context: Context, challenger: Challenger) -> Decided:
    """Decide whether the challenger is promoted, by named checks."""
    from recsys.evaluation.comparison import Comparison
    from recsys.promotion.approval import ask_if_configured
    from recsys.promotion.experiment_required import require_experiment
    from recsys.promotion.gate import decide
    from recsys.promotion.ledger import champion
    from recsys.promotion.replacement import heed_erasure
    from recsys.promotion.report import track_gate, write_gate_report
    from recsys.promotion.serving_term import serving_terms
    from recsys.registry.description import describe_decision
    from recsys.registry.versions import tag_version

    settings, version = context.settings, challenger.version
    folder = Path(challenger.evaluation)
    compared = Comparison.load(folder)
    decision = decide(
        challenger.kind,
        compared.held_out,
        settings,
        compared.guard,
        off_policy=compared.off_policy,
        liking=compared.liking,
        superiority=_superiority(context, challenger, compared.held_out),
    )
    decision = require_experiment(decision, challenger.kind, version, settings.gate)
    decision = ask_if_configured(decision, challenger.kind, settings.approval)
    current = champion(context.engine)
    served = [] if current is None else [current.model_version]
    terms = serving_terms(context.engine, settings, [version, *served])
    of_champion = terms.get(served[0]) if served else None
    decision = heed_erasure(decision, terms.get(version), of_champion, settings.privacy, context.clock())
    write_gate_report(folder, decision)
    track_gate(settings, challenger.mlflow_run, folder)
    logger.info("version %s: %s", version, decision.explanation)
    if decision.action == ASK:
        describe_decision(settings, version, decision.explanation)
        tag_version(settings, version, {"recsys.decision": ASK, "recsys.decision_reason": decision.reason})
    return Decided(version=version, decision=decision, links=challenger.links)


def _superiority(context: Context, challenger: Challenger, evaluation: Evaluation) -> Superiority | None:
    """Test whether the challenger is better, at the level that the month has left."""
    from recsys.promotion.error_budget import make_test
    from recsys.promotion.superiority import Superiority, claims_superiority, superiority_p_value

    settings = context.settings
    p_value, champion = superiority_p_value(evaluation, settings), evaluation.champion_version
    if p_value is None or champion is None:
        return None
    if not claims_superiority(challenger.kind, settings):
        return Superiority(p_value, level=0.0)
    return make_test(
        context.engine,
        settings,
        run_key=context.run.key,
        kind=challenger.kind,
        version=challenger.version,
        champion=champion,
        p_value=p_value,
        now=context.clock(),
    )


def promote(context: Context, decided: Decided, response: Response | None = None) -> NewChampion:
    """Carry out the gate's decision or the person's; only a promotion changes what users see.

    Parameters
    ----------
    response
        None when no person was asked.

    Raises
    ------
    NothingToDoError
        The challenger is not promoted.
    """
    from recsys.promotion.approval import answered
    from recsys.promotion.outcome import change_outcome
    from recsys.promotion.promote import carry_out

    run, decision, version = context.run, decided.decision, decided.version
    actor = run.key
    if response is not None:
        decision = answered(decision, response)
        actor = f"{response.by} ({run.key})" if response.by else run.key
    record = partial(
        carry_out,
        context.engine,
        context.settings,
        version=version,
        actor=actor,
        run_key=run.key,
        now=context.clock(),
    )
    try:
        entry = record(decision)
    except PromotionConflictError as conflict:
        entry = record(change_outcome(decision, HOLD, "champion_changed", f"{conflict}."))
    if entry.action != "promote":
        raise NothingToDoError(f"version {version} is {entry.explanation}")
    return NewChampion(version=version, reason=entry.reason)


def roll_back(context: Context) -> NewChampion:
    """Make an earlier version champion again, for a reason that the ledger keeps."""
    from recsys.promotion.roll_back import roll_back as roll_back_champion

    run = context.run
    entry = roll_back_champion(
        context.engine,
        context.settings,
        reason=run.params["reason"],
        actor=f"{run.asked_by or 'unknown person'} ({run.key})",
        to=run.params["version"],
        run_key=run.key,
        now=context.clock(),
    )
    return NewChampion(version=entry.model_version, reason=entry.explanation)
