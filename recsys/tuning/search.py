"""Searches and their trials in the warehouse, where a search that was killed finds them again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import insert

from recsys.errors import NothingToDoError
from recsys.evaluation.bootstrap import Interval
from recsys.snapshot.reference import SnapshotRef
from recsys.tuning.space import Values
from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.tables import search_trials, searches

RUNNING, COMPLETE, PRUNED, FAILED, OUT_OF_TIME = "running", "complete", "pruned", "failed", "out_of_time"
ABANDONED = "abandoned"

_SNAPSHOT = TypeAdapter(SnapshotRef)


@dataclass(frozen=True)
class Search:
    """A search of settings.

    Attributes
    ----------
    snapshot
        What all trials train on.
    present
        Settings of the first trial: those in force when the search began.
    trials
        Number of planned trials.
    deadline
        When no more is tried.
    outcome
        A name for machines; None while it runs.
    """

    search_id: int
    run_key: str
    snapshot: SnapshotRef
    present: Values
    trials: int
    deadline: datetime
    outcome: str | None


@dataclass(frozen=True)
class Trial:
    """A trial.

    Attributes
    ----------
    number
        From 0, which has the present settings.
    curve
        Validation NDCG after each epoch.
    score
        NDCG of the whole model on the validated users; None unless the trial is complete.
    explanation
        Why it was ended early, for people.
    """

    number: int
    values: Values
    state: str
    curve: tuple[float, ...] = ()
    score: float | None = None
    explanation: str | None = None


def open_search(
    engine: sa.Engine, run_key: str, snapshot: SnapshotRef, present: Values, trials: int, deadline: datetime
) -> Search:
    """Return the search of a run; begin it, and end every other one, unless it has begun."""
    with engine.begin() as connection:
        lock(connection, "search of settings")
        begun = insert(searches).values(
            run_key=run_key,
            snapshot=_SNAPSHOT.dump_python(snapshot, mode="json"),
            present=present,
            trials=trials,
            deadline=deadline,
        )
        new = connection.execute(begun.on_conflict_do_nothing(index_elements=["run_key"])).rowcount
        if new:
            others = searches.c.outcome.is_(None) & (searches.c.run_key != run_key)
            connection.execute(
                searches.update()
                .where(others)
                .values(
                    outcome=ABANDONED,
                    explanation=f"{run_key} began.",
                    ended_at=sa.func.clock_timestamp(),
                )
            )
        return _load(connection, run_key)


def load_search(engine: sa.Engine, run_key: str) -> Search:
    """Return the search of a run.

    Raises
    ------
    NothingToDoError
        Another search has begun since.
    """
    with engine.connect() as connection:
        return _load(connection, run_key)


def _load(connection: sa.Connection, run_key: str) -> Search:
    row = connection.execute(sa.select(searches).where(searches.c.run_key == run_key)).one()
    if row.outcome == ABANDONED:
        raise NothingToDoError(f"the search {run_key} was ended: {row.explanation}")
    return Search(
        search_id=row.search_id,
        run_key=row.run_key,
        snapshot=_SNAPSHOT.validate_python(row.snapshot),
        present=row.present,
        trials=row.trials,
        deadline=row.deadline,
        outcome=row.outcome,
    )


def read_trials(engine: sa.Engine, search: Search) -> list[Trial]:
    """Return the trials that have begun, in the order of their numbers."""
    with engine.connect() as connection:
        return _trials(connection, search)


def _trials(connection: sa.Connection, search: Search) -> list[Trial]:
    rows = connection.execute(
        sa.select(search_trials)
        .where(search_trials.c.search_id == search.search_id)
        .order_by(search_trials.c.number)
    )
    return [
        Trial(row.number, row.settings, row.state, tuple(row.curve), row.score, row.explanation)
        for row in rows
    ]


def begin_trial(
    engine: sa.Engine, search: Search, number: int, suggest: Callable[[Sequence[Trial]], Values]
) -> Trial:
    """Return a trial; one that has begun keeps its settings, and a new one gets what `suggest` returns.

    One that has failed runs again: its process may have been killed from outside.

    Parameters
    ----------
    suggest
        Takes the trials that have begun. One trial at a time asks.
    """
    with engine.begin() as connection:
        lock(connection, f"trials of search {search.search_id}")
        known = _trials(connection, search)
        for trial in known:
            if trial.number == number:
                return _again(connection, search, trial) if trial.state == FAILED else trial
        trial = Trial(number, suggest(known), RUNNING)
        connection.execute(
            search_trials.insert().values(
                search_id=search.search_id, number=number, settings=trial.values, state=RUNNING
            )
        )
        return trial


def _again(connection: sa.Connection, search: Search, trial: Trial) -> Trial:
    again = {"state": RUNNING, "explanation": None, "ended_at": None}
    connection.execute(search_trials.update().where(_row(search, trial)).values(again))
    return replace(trial, state=RUNNING, explanation=None)


def record_curve(engine: sa.Engine, search: Search, trial: Trial, curve: Sequence[float]) -> Trial:
    """Record the validation curve as far as it goes."""
    _update(engine, search, trial, curve=list(curve))
    return replace(trial, curve=tuple(curve))


def end_trial(
    engine: sa.Engine,
    search: Search,
    trial: Trial,
    state: str,
    *,
    score: float | None = None,
    explanation: str | None = None,
) -> Trial:
    """Record how a trial ended."""
    ended = {"state": state, "score": score, "explanation": explanation}
    _update(engine, search, trial, **ended, ended_at=sa.func.clock_timestamp())
    return replace(trial, state=state, score=score, explanation=explanation)


def _update(engine: sa.Engine, search: Search, trial: Trial, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(search_trials.update().where(_row(search, trial)).values(**values))


def _row(search: Search, trial: Trial) -> sa.ColumnElement[bool]:
    return (search_trials.c.search_id == search.search_id) & (search_trials.c.number == trial.number)


def end_search(
    engine: sa.Engine,
    search: Search,
    outcome: str,
    explanation: str,
    *,
    winner: int | None = None,
    users: int | None = None,
    difference: Interval | None = None,
) -> None:
    """Record how a search ended.

    Parameters
    ----------
    winner
        Number of the best trial.
    users, difference
        Unseen users, and their NDCG with the winner minus that with the present settings.
    """
    measured = (
        {}
        if difference is None
        else {"difference": difference.value, "low": difference.low, "high": difference.high}
    )
    with engine.begin() as connection:
        connection.execute(
            searches.update()
            .where(searches.c.search_id == search.search_id)
            .values(
                outcome=outcome,
                explanation=explanation,
                winner=winner,
                users=users,
                ended_at=sa.func.clock_timestamp(),
                **measured,
            )
        )
