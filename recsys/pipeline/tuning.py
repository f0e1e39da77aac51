"""From the settings in force to a model that was trained with better ones."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.errors import NothingToDoError, TrainingError
from recsys.pipeline.context import Context
from recsys.pipeline.references import Candidate, SearchTrial
from recsys.registry.lineage import Lineage

if TYPE_CHECKING:
    from recsys.evaluation.bootstrap import Interval
    from recsys.training.result import TrainingResult
    from recsys.tuning.search import Search, Trial

logger = logging.getLogger(__name__)


def begin_search(context: Context) -> list[SearchTrial]:
    """Plan the trials, all on the newest full snapshot; the first one has the settings in force."""
    from recsys.snapshot.snapshots_table import newest_full
    from recsys.tuning.adopted import settings_in_force
    from recsys.tuning.search import open_search
    from recsys.tuning.space import values_of, varied

    settings = context.settings
    names = varied(settings)
    if settings.tuning.trials < 2 or not names:
        raise NothingToDoError(
            f"there is nothing to try: RECSYS_TUNING__TRIALS is {settings.tuning.trials}, and "
            f"{len(names)} of the searched settings are not set in the environment"
        )
    snapshot = newest_full(context.engine)
    if snapshot is None:
        raise NothingToDoError("the newest full snapshot is not there; run nightly_training first")
    in_force, _ = settings_in_force(context.engine, settings)
    search = open_search(
        context.engine,
        context.run.key,
        snapshot,
        values_of(in_force, names),
        settings.tuning.trials,
        context.clock() + timedelta(minutes=settings.tuning.time_budget_minutes),
    )
    return [SearchTrial(number=number) for number in range(search.trials)]


def run_trial(context: Context, trial: SearchTrial) -> None:
    """Train with the settings of one trial, in a separate process, and record its score."""
    from recsys.tuning.search import load_search
    from recsys.tuning.track import track_trial
    from recsys.tuning.trial import run_trial as run

    search = load_search(context.engine, context.run.key)
    ended = run(context.engine, context.settings, search, trial.number, context.clock)
    logger.info("trial %d, %s: %s %s", ended.number, ended.values, ended.state, ended.score or "")
    if ended.explanation:
        logger.warning("trial %d: %s", ended.number, ended.explanation)
    track_trial(context.settings, search, ended)


def confirm_winner(context: Context) -> Candidate:
    """Hand on the best trial's model if it is better on users whom the search has not seen.

    Raises
    ------
    NothingToDoError
        It is not shown to be better.
    TrainingError
        The present settings have no score, so that there is nothing to compare with.
    """
    from recsys.snapshot.read import read_snapshot
    from recsys.tuning.confirm import compare_on_unseen_users
    from recsys.tuning.search import load_search, read_trials
    from recsys.tuning.trial import UNSEEN_SHARE

    settings, engine = context.settings, context.engine
    search = load_search(engine, context.run.key)
    trials = read_trials(engine, search)
    complete = _complete(context, search, trials)
    best = max(complete, key=lambda trial: trial.score or 0.0)
    if best.number == 0:
        _end(context, search, trials, "present_is_best", f"None of {len(complete)} trials was better.", best)
        raise NothingToDoError(f"the present settings are the best of {len(complete)} complete trials")
    winner, present = (_trained(context, search, number) for number in (best.number, 0))
    snapshot = read_snapshot(search.snapshot, verify="sizes")
    found = compare_on_unseen_users(
        snapshot, Path(winner.checkpoint), Path(present.checkpoint), settings.evaluation, UNSEEN_SHARE
    )
    change = found.difference
    figures = (
        f"{found.users} users whom the search has not seen: NDCG@{settings.evaluation.k} {found.winner:.4f} "
        f"with trial {best.number} and {found.present:.4f} with the present settings, difference "
        f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]."
    )
    if found.users < settings.gate.min_evaluated_users or not change.low > 0:
        outcome = "not_better" if found.users >= settings.gate.min_evaluated_users else "too_few_users"
        _end(context, search, trials, outcome, figures, best, found.users, change)
        raise NothingToDoError(f"the best trial is not shown to be better: {figures}")
    _end(context, search, trials, "confirmed", figures, best, found.users, change)
    return _candidate(context, search, winner, best)


def _trained(context: Context, search: Search, number: int) -> TrainingResult:
    from recsys.training.result import read_result, verify_checkpoint
    from recsys.tuning.trial import trial_folder

    folder = trial_folder(context.settings, search, number)
    result = read_result(folder)
    if result is None:
        raise TrainingError(f"the model of trial {number} is no longer in {folder}; start another search")
    verify_checkpoint(result)
    return result


def _complete(context: Context, search: Search, trials: list[Trial]) -> list[Trial]:
    """Return the complete trials; raise TrainingError if that with the present settings is not one."""
    from recsys.tuning.search import COMPLETE, OUT_OF_TIME

    complete = [trial for trial in trials if trial.state == COMPLETE]
    if complete and complete[0].number == 0:
        return complete
    first = trials[0] if trials and trials[0].number == 0 else None
    if first is not None and first.state == OUT_OF_TIME:
        why = (
            "the present settings were not trained to the end within RECSYS_TUNING__TIME_BUDGET_MINUTES = "
            f"{context.settings.tuning.time_budget_minutes:g}; raise it, or lower RECSYS_TRAINING__EPOCHS"
        )
    else:
        reason = "it has not run" if first is None else first.explanation
        why = f"the present settings have no score: {reason}"
        if not complete:
            why = f"every trial failed; {why}"
    _end(context, search, trials, "failed", f"{why[0].upper()}{why[1:]}.")
    raise TrainingError(why)


def _end(
    context: Context,
    search: Search,
    trials: list[Trial],
    outcome: str,
    explanation: str,
    winner: Trial | None = None,
    users: int | None = None,
    difference: Interval | None = None,
) -> None:
    from recsys.tuning.search import end_search
    from recsys.tuning.track import track_search

    track_search(context.settings, search, trials, explanation)
    end_search(
        context.engine,
        search,
        outcome,
        explanation,
        winner=None if winner is None else winner.number,
        users=users,
        difference=difference,
    )


def _candidate(context: Context, search: Search, training: TrainingResult, best: Trial) -> Candidate:
    """Return the winner's model as if this run had trained it: its files, and its run in MLflow."""
    from recsys.registry.tracking import track_training
    from recsys.training.job import run_folder
    from recsys.training.result import write_result
    from recsys.tuning.space import with_values

    settings, run = context.settings, context.run
    folder = run_folder(settings.runs, "full", run.key)
    checkpoint, history = folder / "checkpoint", folder / "history.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
    shutil.copytree(training.checkpoint, checkpoint)
    shutil.copyfile(training.history, history)
    own = replace(training, checkpoint=str(checkpoint), history=str(history))
    write_result(folder, own)
    lineage = Lineage(snapshot=search.snapshot, window_ids=(search.snapshot.window_id,))
    mlflow_run = track_training(with_values(settings, best.values), run.key, own, lineage)
    return Candidate(lineage=lineage, training=own, folder=str(folder), mlflow_run=mlflow_run)
