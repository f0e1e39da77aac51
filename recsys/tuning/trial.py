"""Run one trial: train with other settings, and stop when it is hopeless or the time is over."""

import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from recsys.errors import TrainingError
from recsys.settings import Settings
from recsys.training.job import TrainingJob, run_folder
from recsys.training.launch import run_training
from recsys.training.result import HISTORY_FILE
from recsys.tuning.search import (
    COMPLETE,
    FAILED,
    OUT_OF_TIME,
    PRUNED,
    RUNNING,
    Search,
    Trial,
    begin_trial,
    end_trial,
    read_trials,
    record_curve,
)
from recsys.tuning.space import distributions, fits, with_values
from recsys.tuning.study import is_hopeless, suggest

UNSEEN_SHARE = 0.5
"""Share of the users whom no trial validates on; the winner is tested on them."""
_LONGEST_EXPLANATION = 2_000


class _EndedError(Exception):
    """Leaves the training of a trial early."""

    def __init__(self, state: str, explanation: str) -> None:
        super().__init__(explanation)
        self.state = state


def trial_folder(settings: Settings, search: Search, number: int) -> Path:
    """Return the folder of a trial's training, the same for every attempt."""
    return run_folder(settings.runs, "full", trial_key(search, number))


def trial_key(search: Search, number: int) -> str:
    """Return the run key of a trial."""
    return f"{search.run_key}/trial {number}"


def run_trial(
    engine: sa.Engine, settings: Settings, search: Search, number: int, now: Callable[[], datetime]
) -> Trial:
    """Train with the settings of a trial and record its score; a failed training is a result too.

    A trial that was killed goes on after its last epoch.

    Parameters
    ----------
    number
        From 0, which has the present settings and is never stopped for its validation.
    """
    drawn_from = distributions(settings, search.present)

    def settings_of_next(trials: list[Trial]) -> dict[str, int | float]:
        return suggest(drawn_from, trials, number, settings.training.seed) if number else search.present

    trial = begin_trial(engine, search, number, lambda trials: settings_of_next(list(trials)))
    if trial.state != RUNNING:
        return trial
    folder = trial_folder(settings, search, number)

    def watch(line: str) -> None:
        nonlocal trial
        if not line.startswith("epoch "):
            return
        trial = record_curve(engine, search, trial, read_curve(folder / HISTORY_FILE))
        _require_time(search, now)
        if number and is_hopeless(drawn_from, read_trials(engine, search), trial):
            raise _EndedError(
                PRUNED, f"its validation after {len(trial.curve)} epochs was below the median of the others"
            )

    try:
        _require_time(search, now)
        _require_fit(settings, trial)
        tried = with_values(settings, trial.values | {"training.machines": 1})
        job = TrainingJob.of(
            tried, "full", search.snapshot, folder, tuned=trial.values, unseen_share=UNSEEN_SHARE
        )
        result = run_training(job, watch)
    except _EndedError as ended:
        return end_trial(engine, search, trial, ended.state, explanation=str(ended))
    except TrainingError as error:
        return end_trial(engine, search, trial, FAILED, explanation=str(error)[:_LONGEST_EXPLANATION])
    score = result.metrics.get("validation_ndcg_fused", result.metrics["validation_ndcg"])
    if not math.isfinite(score):
        return end_trial(engine, search, trial, FAILED, explanation=f"its score is {score}")
    return end_trial(engine, search, trial, COMPLETE, score=score)


def _require_time(search: Search, now: Callable[[], datetime]) -> None:
    if now() >= search.deadline:
        raise _EndedError(OUT_OF_TIME, "the search's time was over")


def _require_fit(settings: Settings, trial: Trial) -> None:
    """End a trial whose settings the environment has made impossible since they were drawn."""
    for name, value in trial.values.items():
        if not fits(settings, name, value):
            raise _EndedError(FAILED, f"{name} = {value} does not go with the other settings")


def read_curve(history: Path) -> list[float]:
    """Return the validation NDCG after each epoch."""
    rows = history.read_text().splitlines() if history.is_file() else []
    return [float(json.loads(row)["validation_ndcg"]) for row in rows]
