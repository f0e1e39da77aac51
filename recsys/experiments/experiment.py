"""Start and end experiments, and find the one that runs.

A user's arm follows from a salted hash of the user's key (the SQL function `experiment_arm`), so it is stored
nowhere and stays the same. Salt and shares of an experiment cannot be changed: a trigger refuses it. A user
has one list for all placements, so one experiment runs at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from recsys.errors import ExperimentError
from recsys.experiments.decide import Aims
from recsys.experiments.effects import METRICS, PREFERENCE
from recsys.experiments.preference import DISLIKES
from recsys.promotion import ledger
from recsys.settings import Settings
from recsys.warehouse.tables import experiments

DAYS = 28
SUCCESS = ("click_through",)
GUARDRAILS: Mapping[str, float] = {"slates": 0.05}


@dataclass(frozen=True)
class Experiment:
    """A row of the table `experiments`.

    Attributes
    ----------
    placements
        Whose slates are read; None: all.
    shown_since
        When all arms were first published; None: not yet.
    outcome, explanation
        How it ended; None while it runs.
    kind
        `split`: users of the challenger get its lists. `interleave`: they get lists that it and the champion
        pick in turn.
    """

    experiment_id: int
    name: str
    challenger: str
    champion: str
    challenger_share: float
    hold_out_share: float
    salt: str
    placements: list[str] | None
    success: list[str]
    guardrails: dict[str, float]
    days: int
    started_at: datetime
    started_by: str
    shown_since: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    outcome: str | None
    explanation: str | None
    kind: Literal["split", "interleave"]

    @property
    def aims(self) -> Aims:
        """Its metrics."""
        return Aims(tuple(self.success), self.guardrails)

    @property
    def shares(self) -> dict[str, float]:
        """Planned share of users by arm."""
        control = 1.0 - self.challenger_share - self.hold_out_share
        return {"control": control, "challenger": self.challenger_share, "hold_out": self.hold_out_share}


def running(connection: sa.Connection) -> Experiment | None:
    """Return the experiment that runs."""
    row = connection.execute(sa.select(experiments).where(experiments.c.ended_at.is_(None))).one_or_none()
    return None if row is None else Experiment(**row._asdict())


def lock_running(connection: sa.Connection) -> Experiment | None:
    """Return the experiment that runs, and keep others from ending it until the transaction ends."""
    statement = sa.select(experiments).where(experiments.c.ended_at.is_(None)).with_for_update()
    row = connection.execute(statement).one_or_none()
    return None if row is None else Experiment(**row._asdict())


def latest(connection: sa.Connection, limit: int = 20) -> list[Experiment]:
    """Return experiments, the newest first."""
    statement = sa.select(experiments).order_by(experiments.c.experiment_id.desc()).limit(limit)
    return [Experiment(**row._asdict()) for row in connection.execute(statement)]


def start(
    engine: sa.Engine,
    settings: Settings,
    name: str,
    challenger: str,
    *,
    share: float,
    hold_out: float = 0.0,
    placements: Sequence[str] = (),
    success: Sequence[str] = SUCCESS,
    guardrails: Mapping[str, float] | None = None,
    days: int = DAYS,
    interleave: bool = False,
    actor: str,
    now: datetime,
) -> Experiment:
    """Start an experiment; the next publication gives its users their lists.

    Parameters
    ----------
    share, hold_out
        Shares of users (0 to 1) who get the challenger's list, and no list of their own. All others get the
        champion's.
    placements
        Whose slates are read; empty: all.
    success, guardrails
        As in `Aims`; guardrails are `GUARDRAILS` if None. If lists are interleaved, users prefer one version
        or the other, and `dislikes` is the only guardrail there can be; None: there is none.
    interleave
        Let both versions pick the items of a list in turn, instead of giving users one version's lists.
    actor
        The person who starts it.

    Raises
    ------
    ExperimentError
        Another experiment runs, the name is taken, there is no champion, the challenger is champion, or a
        share, metric or margin is impossible.
    RegistryError, ErasedUsersError
        The version is unknown, its files have changed, or it may not be served any more.
    """
    if guardrails is None:
        guardrails = {} if interleave else GUARDRAILS
    if interleave:
        success = (PREFERENCE.name,)
        if of_nobody := sorted(set(guardrails) - {DISLIKES.name}):
            raise ExperimentError(
                f"users of interleaved lists see both versions, so {', '.join(of_nobody)} is of neither; the "
                f"only guardrail there is {DISLIKES.name}"
            )
    else:
        _check_metrics(success, guardrails)
    _check_margins(guardrails)
    _check(name, share, hold_out, days)
    champion = ledger.champion(engine)
    if champion is None:
        raise ExperimentError("there is no champion to compare with yet; run nightly_training first")
    if champion.model_version == challenger:
        raise ExperimentError(f"version {challenger} is the champion; name another version as challenger")
    # Imported here because whoever asks for the running experiment need not load MLflow.
    from recsys.promotion.serving_term import refuse_if_over
    from recsys.registry.versions import download_checkpoint

    # Its files must be whole before any user depends on them.
    download_checkpoint(settings, challenger)
    refuse_if_over(engine, settings, challenger, now)
    values = {
        "name": name, "challenger": challenger, "champion": champion.model_version, "challenger_share": share,
        "hold_out_share": hold_out, "placements": list(placements) or None, "success": list(success),
        "guardrails": dict(guardrails), "days": days, "started_at": now, "started_by": actor,
        "kind": "interleave" if interleave else "split",
    }  # fmt: skip
    try:
        with engine.begin() as connection:
            statement = sa.insert(experiments).values(values).returning(experiments)
            experiment = Experiment(**connection.execute(statement).one()._asdict())
            _record(connection, experiment, "experiment_started", _plan(experiment), [], actor)
    except IntegrityError as error:
        with engine.connect() as connection:
            other = running(connection)
        if other is not None:
            raise ExperimentError(
                f"experiment {other.name} runs already, and a user has one list for all placements; end it "
                f"with `recsys experiment stop {other.name}` first"
            ) from error
        raise ExperimentError(
            f"there was an experiment named {name!r} before; choose another name"
        ) from error
    return experiment


def end(
    connection: sa.Connection,
    experiment: Experiment,
    *,
    outcome: str,
    explanation: str,
    evidence: Sequence[Mapping[str, Any]] = (),
    actor: str,
    now: datetime,
) -> None:
    """End an experiment and record it in the ledger, in the caller's transaction.

    The next publication gives all users the champion's lists. The caller has locked the experiment
    (`lock_running`).
    """
    connection.execute(
        experiments.update()
        .where(experiments.c.experiment_id == experiment.experiment_id)
        .values(ended_at=now, ended_by=actor, outcome=outcome, explanation=explanation)
    )
    _record(connection, experiment, outcome, explanation, list(evidence), actor)


def stop(engine: sa.Engine, *, name: str, reason: str, actor: str, now: datetime) -> Experiment:
    """End the running experiment because a person wants to.

    Raises
    ------
    ExperimentError
        It does not run, or there is no reason.
    """
    if not reason.strip():
        raise ExperimentError("ending an experiment needs a reason; it is recorded in the ledger (--reason)")
    with engine.begin() as connection:
        experiment = lock_running(connection)
        if experiment is None or experiment.name != name:
            which = f"; {experiment.name} does" if experiment else ""
            raise ExperimentError(f"no experiment named {name!r} is running{which}")
        end(connection, experiment, outcome="stopped_by_person", explanation=reason, actor=actor, now=now)
    return experiment


def _check(name: str, share: float, hold_out: float, days: int) -> None:
    if not name.strip():
        raise ExperimentError("an experiment needs a name")
    if not (0 < share < 1 and 0 <= hold_out < 1 and share + hold_out < 1):
        raise ExperimentError(
            f"a share of {share:g} and a hold-out of {hold_out:g} leave no control; both are shares of "
            "users, below 1 together"
        )
    if not 1 <= days <= 365:
        raise ExperimentError(f"an experiment of {days} days is not planned; choose 1 to 365")


def _check_metrics(success: Sequence[str], guardrails: Mapping[str, float]) -> None:
    for metric in (*success, *guardrails):
        if metric not in METRICS:
            raise ExperimentError(f"there is no metric {metric!r}; the metrics are {', '.join(METRICS)}")
    both = set(success) & set(guardrails)
    if not success or len(set(success)) < len(success) or both:
        raise ExperimentError(
            "an experiment needs success metrics, each once and not as a guardrail too; given: success "
            f"{list(success)}, guardrails {list(guardrails)}"
        )


def _check_margins(guardrails: Mapping[str, float]) -> None:
    for metric, margin in guardrails.items():
        if not 0 < margin < 1:
            raise ExperimentError(
                f"the margin {margin:g} of {metric} is no share; choose one between 0 and 1"
            )


def _plan(experiment: Experiment) -> str:
    shares = ", ".join(f"{arm.replace('_', ' ')} {share:.1%}" for arm, share in experiment.shares.items())
    how = "interleaved with" if experiment.kind == "interleave" else "against"
    return (
        f"experiment {experiment.name}: version {experiment.challenger} {how} the champion on "
        f"{', '.join(experiment.success)}, {experiment.days} days ({shares})"
    )


def _record(
    connection: sa.Connection,
    experiment: Experiment,
    reason: str,
    explanation: str,
    evidence: list[Mapping[str, Any]],
    actor: str,
) -> None:
    ledger.record_experiment(
        connection,
        version=experiment.challenger,
        reason=reason,
        explanation=explanation,
        checks=[dict(part) for part in evidence],
        actor=actor,
    )
