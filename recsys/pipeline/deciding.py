"""From a challenger to a decision, and back to an earlier champion."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from recsys.errors import NothingToDoError, PromotionConflictError
from recsys.pipeline.context import Reference, Run, connect

logger = logging.getLogger(__name__)


def gate(run: Run, challenger: Reference) -> Reference:
    """Decide whether the challenger is promoted, with named checks."""
    from recsys.evaluation.comparison import Comparison
    from recsys.promotion.approval import ask_if_configured
    from recsys.promotion.gate import ASK, decide
    from recsys.promotion.report import track_gate, write_gate_report
    from recsys.registry.versions import describe_version, tag_version

    settings, _ = connect()
    folder = Path(challenger["evaluation"])
    compared = Comparison.load(folder)
    decision = decide(
        challenger["kind"],
        compared.held_out,
        settings,
        compared.guard,
        off_policy=compared.off_policy,
        liking=compared.liking,
    )
    decision = ask_if_configured(decision, challenger["kind"], settings.approval)
    write_gate_report(folder, decision)
    track_gate(settings, challenger["mlflow_run"], folder)
    logger.info("%s: %s", decision.action, decision.explanation)
    version = challenger["version"]
    if decision.action == ASK:
        describe_version(settings, version, f"waits for a person: {decision.explanation}")
        tag_version(settings, version, {"recsys.decision": ASK, "recsys.decision_reason": decision.reason})
    return {"version": version, "decision": decision.to_dict(), "links": challenger["links"]}


def approve(run: Run, decided: Reference) -> Reference:
    """Put into words what a person is asked about the gate's decision."""
    from recsys.promotion.approval import body, subject
    from recsys.promotion.gate import ASK, Decision

    decision = Decision.from_dict(decided["decision"])
    if decision.action != ASK:
        raise NothingToDoError(f"no person needs to be asked: the gate's decision is {decision.action}")
    return {"subject": subject(decided["version"], decision), "body": body(decision, decided["links"])}


def promote(run: Run, decided: Reference, response: Reference) -> Reference:
    """Carry out the gate's decision, or the person's: only a promotion changes what users see.

    `response` is empty when no person was asked.
    """
    from recsys.promotion.approval import Response, answered
    from recsys.promotion.gate import Decision
    from recsys.promotion.promote import carry_out

    settings, engine = connect()
    decision = Decision.from_dict(decided["decision"])
    version = decided["version"]
    actor = run.key
    if response:
        answer = Response.from_dict(response)
        decision = answered(decision, answer)
        actor = f"{answer.by} ({run.key})" if answer.by else run.key
    try:
        entry = carry_out(engine, settings, decision, version, actor=actor, run_key=run.key)
    except PromotionConflictError as conflict:
        decision = replace(decision, action="hold", reason="champion_changed", explanation=str(conflict))
        entry = carry_out(engine, settings, decision, version, actor=actor, run_key=run.key)
    if entry.action != "promote":
        raise NothingToDoError(f"version {version} is not promoted ({entry.reason}): {entry.explanation}")
    return {"version": version, "reason": entry.reason}


def roll_back(run: Run) -> Reference:
    """Make an earlier version champion again, for a reason that the ledger keeps."""
    from recsys.promotion.roll_back import roll_back as roll_back_champion

    settings, engine = connect()
    entry = roll_back_champion(
        engine,
        settings,
        reason=run.params["reason"],
        actor=f"{run.asked_by or 'unknown person'} ({run.key})",
        to=run.params["version"],
        run_key=run.key,
    )
    return {"version": entry.model_version, "reason": entry.explanation}
