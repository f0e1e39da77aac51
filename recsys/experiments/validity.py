"""End an experiment that cannot go on, with a named reason; its users get the champion's lists then."""

import logging
from datetime import datetime

import sqlalchemy as sa

from recsys.errors import RegistryError
from recsys.experiments.experiment import Experiment, end, lock_running, running
from recsys.promotion import ledger
from recsys.promotion.serving_term import serving_term
from recsys.registry.versions import load_version
from recsys.settings import Settings
from recsys.upkeep.monitoring import Finding, open_alert, send_open_alerts

logger = logging.getLogger(__name__)

ACTOR = "recsys"


def running_if_valid(engine: sa.Engine, settings: Settings, now: datetime) -> Experiment | None:
    """Return the experiment that runs, or end it if it cannot go on and return None.

    It cannot if the challenger has become champion, has been removed, or may not be served any more because
    it knows erased users, or if the champion was rolled back since the start.
    """
    with engine.connect() as connection:
        experiment = running(connection)
    if experiment is None:
        return None
    why = _why_not(engine, settings, experiment, now)
    if why is None:
        return experiment
    end_invalid(engine, settings, experiment, *why, now=now)
    return None


def end_invalid(
    engine: sa.Engine,
    settings: Settings,
    experiment: Experiment,
    outcome: str,
    explanation: str,
    *,
    now: datetime,
) -> None:
    """End an experiment that cannot go on, and alert; nothing happens if it has ended meanwhile."""
    with engine.begin() as connection:
        current = lock_running(connection)
        if current is None or current.experiment_id != experiment.experiment_id:
            return
        end(connection, experiment, outcome=outcome, explanation=explanation, actor=ACTOR, now=now)
        alert(connection, experiment, explanation, now)
    logger.warning("experiment %s ended: %s", experiment.name, explanation)
    send_open_alerts(engine, settings, now)


def alert(connection: sa.Connection, experiment: Experiment, explanation: str, now: datetime) -> None:
    """Open the alert of an experiment that did not end as planned; `send_open_alerts` sends it."""
    text = f"experiment {experiment.name} ended: {explanation}"
    open_alert(connection, Finding(f"experiment {experiment.name}", text), now)


def _why_not(
    engine: sa.Engine, settings: Settings, experiment: Experiment, now: datetime
) -> tuple[str, str] | None:
    version, champion = experiment.challenger, ledger.champion(engine)
    if champion is not None and champion.model_version == version:
        return "challenger_promoted", f"version {version} has become champion"
    if champion is not None and champion.action == "roll_back" and champion.since > experiment.started_at:
        return (
            "champion_rolled_back",
            f"the champion was rolled back to version {champion.model_version}, so there is nothing left to "
            "compare with; start another experiment",
        )
    try:
        load_version(settings, version)
    except RegistryError as error:
        return "challenger_removed", f"version {version} cannot be served any more: {error}"
    term = serving_term(engine, settings, version)
    if term is not None and term.is_over(now):
        return "challenger_knows_erased_users", str(term)
    return None
