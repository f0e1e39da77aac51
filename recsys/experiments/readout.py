"""Read the running experiment: what its users did, what that shows, and whether it ends."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

import sqlalchemy as sa

from recsys.errors import NothingToDoError
from recsys.experiments.arms import Arms, read_arms
from recsys.experiments.decide import MetricReader, Reading, conclude
from recsys.experiments.effects import METRICS, PREFERENCE, Effect, compare_arms
from recsys.experiments.experiment import Experiment, end, lock_running
from recsys.experiments.explain import explain
from recsys.experiments.mismatch import ALPHA as MISMATCH_ALPHA
from recsys.experiments.mismatch import mismatch_p_value
from recsys.experiments.preference import DISLIKES, MIN_ANSWERING, Interleaved, nothing
from recsys.experiments.validity import alert, running_if_valid
from recsys.settings import Settings
from recsys.upkeep.monitoring import send_open_alerts
from recsys.warehouse.tables import experiment_readouts

logger = logging.getLogger(__name__)

_OF_INTERLEAVED = {
    "challenger_better": "challenger_preferred",
    "challenger_worse": "champion_preferred",
    "no_difference_shown": "no_preference_shown",
}
_ALERTING = ("sample_ratio_mismatch", "guardrail_broken", "challenger_worse", "arms_mixed", "slots_uneven")


@dataclass(frozen=True)
class Readout:
    """A look at an experiment.

    Attributes
    ----------
    share
        Of the planned time that has passed.
    outcome
        `running`, or why the experiment has ended.
    readings
        As in the table `experiment_readouts`.
    """

    experiment_id: int
    outcome: str
    share: float
    users: dict[str, int]
    readings: list[dict[str, Any]]


def read_out(
    engine: sa.Engine, settings: Settings, *, run_key: str, until: datetime, now: datetime
) -> Readout:
    """Look at the running experiment, record what was found, and end it if that decides.

    Look as often as you like: the error rates hold for all looks together. A look is recorded with the end of
    the experiment, its row in the ledger and its alert in one transaction.

    Parameters
    ----------
    run_key
        The run that looks. Its retries find the look of the first attempt.
    until
        Slates and reactions before it are read.

    Raises
    ------
    NothingToDoError
        No experiment is running or can go on, its lists are not published yet, or it was read until then.
    """
    with engine.connect() as connection:
        recorded = _recorded(connection, run_key)
    if recorded is not None:
        send_open_alerts(engine, settings, now)
        return recorded
    experiment = running_if_valid(engine, settings, now)
    if experiment is None:
        raise NothingToDoError("no experiment is running")
    if experiment.shown_since is None or experiment.shown_since >= until:
        raise NothingToDoError(
            f"experiment {experiment.name} has no slates before {until:%Y-%m-%d %H:%M}; its lists are shown "
            "from the next publication for everybody on (publish_recommendations)"
        )
    arms, left_out = read_arms(engine, experiment, until)
    share = (until - experiment.shown_since) / timedelta(days=experiment.days)
    planned = {arm: part for arm, part in experiment.shares.items() if part > 0 or arm in arms.moments}
    users = {arm: arms.of(arm).users for arm in planned}
    p_value = mismatch_p_value(list(users.values()), list(planned.values()))
    with engine.begin() as connection:
        current = lock_running(connection)
        if (recorded := _recorded(connection, run_key)) is not None:
            return recorded  # by another attempt of the run, while this one was reading
        if current is None or current.experiment_id != experiment.experiment_id:
            raise NothingToDoError(f"experiment {experiment.name} has ended meanwhile")
        past = _past(connection, experiment)
        if past and until <= past[-1].until:
            raise NothingToDoError(f"experiment {experiment.name} was read until {past[-1].until} already")
        readings = _readings(experiment, arms, past, share)
        outcome: str = conclude(readings, share)
        if p_value <= MISMATCH_ALPHA:
            outcome = "sample_ratio_mismatch"
        elif outcome == "no_difference_shown" and arms.are_mixed:
            outcome = "arms_mixed"
        elif arms.interleaved is not None:
            outcome = _of_interleaved(outcome, arms.interleaved)
        found = [_as_row(reading, arms) for reading in readings]
        connection.execute(
            sa.insert(experiment_readouts).values(
                experiment_id=experiment.experiment_id, run_key=run_key, read_at=now, until=until,
                share=share, users=users, mismatch_p_value=p_value, outcome=outcome, readings=found,
                left_out={**left_out, "of_other_arm": arms.of_other_arm},
            )
        )  # fmt: skip
        if outcome != "running":
            explanation = explain(experiment, outcome, found, users, p_value)
            end(
                connection, experiment, outcome=outcome, explanation=explanation, evidence=found,
                actor=run_key, now=now,
            )  # fmt: skip
            if outcome in _ALERTING:
                alert(connection, experiment, explanation, now)
            logger.info("experiment %s ended: %s", experiment.name, explanation)
    send_open_alerts(engine, settings, now)
    return Readout(experiment.experiment_id, outcome, share, users, found)


def _recorded(connection: sa.Connection, run_key: str) -> Readout | None:
    row = connection.execute(
        sa.select(experiment_readouts).where(experiment_readouts.c.run_key == run_key)
    ).one_or_none()
    if row is None:
        return None
    return Readout(row.experiment_id, row.outcome, row.share, row.users, row.readings)


def latest_readout(connection: sa.Connection, experiment_id: int) -> Readout | None:
    """Return the newest look at an experiment."""
    row = connection.execute(
        sa.select(experiment_readouts)
        .where(experiment_readouts.c.experiment_id == experiment_id)
        .order_by(experiment_readouts.c.readout_id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return Readout(row.experiment_id, row.outcome, row.share, row.users, row.readings)


def _past(connection: sa.Connection, experiment: Experiment) -> list[sa.Row[Any]]:
    return list(
        connection.execute(
            sa.select(
                experiment_readouts.c.until, experiment_readouts.c.share, experiment_readouts.c.readings
            )
            .where(experiment_readouts.c.experiment_id == experiment.experiment_id)
            .order_by(experiment_readouts.c.readout_id)
        )
    )


def _readings(experiment: Experiment, arms: Arms, past: list[sa.Row[Any]], share: float) -> list[Reading]:
    readings = []
    for name, role in experiment.aims.metrics:
        reader = MetricReader(experiment.aims, name, role)
        for look in past:
            for reading in look.readings:
                if reading["metric"] == name:
                    reader.pass_over(look.share, reading["information"])
        readings.append(reader.read(_effect(arms, name), share))
    return readings


def _effect(arms: Arms, name: str) -> Effect:
    """Return a metric now; one without information if it cannot be read."""
    if (found := arms.interleaved) is not None:
        metric = DISLIKES if name == DISLIKES.name else PREFERENCE
        if arms.are_mixed:
            return nothing(metric)
        return found.dislikes() if metric is DISLIKES else found.effect()
    metric = METRICS[name]
    if arms.can_be_read() and all(arms.is_known(metric, arm) for arm in ("control", "challenger")):
        return compare_arms(metric, arms.of("control"), arms.of("challenger"))
    return nothing(metric)


def _of_interleaved(outcome: str, found: Interleaved) -> str:
    """Return the outcome's name: users have compared two versions, and neither is promoted for that."""
    if outcome == "no_difference_shown" and found.answering < MIN_ANSWERING:
        return "hardly_answered"
    if outcome == "no_difference_shown" and found.is_uneven:
        return "slots_uneven"
    return _OF_INTERLEAVED.get(outcome, outcome)


def _as_row(reading: Reading, arms: Arms) -> dict[str, Any]:
    """Return a reading as JSON; null: not known, or of too few people."""
    effect = reading.effect
    known = effect.information > 0
    hold_out = None
    if known and arms.is_known(effect.metric, "hold_out"):
        hold_out = compare_arms(effect.metric, arms.of("hold_out"), arms.of("control")).control

    def or_none(value: float) -> float | None:
        return value if known and isfinite(value) else None

    return {
        "metric": effect.metric.name, "role": reading.role, "margin": reading.margin,
        "control": or_none(effect.control), "challenger": or_none(effect.challenger), "hold_out": hold_out,
        "difference": or_none(effect.difference), "low": or_none(reading.low), "high": or_none(reading.high),
        "standard_error": or_none(effect.standard_error), "information": effect.information,
        "variance_ratio": or_none(effect.variance_ratio), "verdict": reading.verdict,
    }  # fmt: skip
