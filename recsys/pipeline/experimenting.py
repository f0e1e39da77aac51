"""From what users do to a decision between two versions."""

from __future__ import annotations

from recsys.errors import NothingToDoError
from recsys.pipeline.context import Context
from recsys.pipeline.references import NewChampion, ReadExperiment


def read_experiment(context: Context) -> ReadExperiment:
    """Judge the slates that have arrived, look at the running experiment, and end it if that decides.

    Slates of the last hour are judged before they are read, because a look may decide.

    Raises
    ------
    NothingToDoError
        No experiment is running, or there is nothing to read yet.
    """
    from recsys.experiments.readout import read_out
    from recsys.validation.impressions import judge_impressions

    judge_impressions(context.engine, context.settings.validation)
    run, now = context.run, context.clock()
    until = now if run.interval is None else min(now, run.interval[1])
    found = read_out(context.engine, context.settings, run_key=run.key, until=until, now=now)
    return ReadExperiment(experiment_id=found.experiment_id, outcome=found.outcome)


def promote_winner(context: Context, read: ReadExperiment) -> NewChampion:
    """Note the outcome on the challenger's version, and promote it if it won and the gate waits for that.

    Raises
    ------
    NothingToDoError
        The experiment goes on, the challenger has not won, or promotion is left to people.
    """
    from recsys.experiments.winner import promote_winner as promote

    entry = promote(
        context.engine, context.settings, read.experiment_id, run_key=context.run.key, now=context.clock()
    )
    if entry is None:
        raise NothingToDoError(f"the experiment's outcome is {read.outcome}: nothing is promoted")
    return NewChampion(version=entry.model_version, reason=entry.reason)
