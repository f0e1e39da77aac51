"""Ask Optuna what to try next and what to stop.

The trials are in the warehouse. Each question builds a study of them in memory, so that Optuna needs no
tables of its own, and a search that was killed goes on.

Sources: Bergstra and others (2011) for the sampler, a tree-structured Parzen estimator; Golovin and others
(2017) for the rule that stops a trial below the median.
"""

from collections.abc import Sequence
from contextlib import suppress

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from recsys.tuning.search import COMPLETE, PRUNED, RUNNING, Trial
from recsys.tuning.space import Values

RANDOM_TRIALS = 5
"""Trials before the sampler learns from their scores."""
MIN_COMPLETE = 3
"""Complete trials that the median is taken of at least."""
MIN_EPOCHS = 5
"""Epochs before a trial may be stopped: a small learning rate is behind at first."""

_STATES = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, RUNNING: TrialState.RUNNING}

optuna.logging.set_verbosity(optuna.logging.WARNING)


def suggest(
    distributions: dict[str, BaseDistribution], trials: Sequence[Trial], number: int, seed: int
) -> Values:
    """Return the settings of the next trial; other trials may still run."""
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=seed * 1_000 + number
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(_possible(trials, distributions))
    return dict(study.ask(distributions).params)


def is_hopeless(distributions: dict[str, BaseDistribution], trials: Sequence[Trial], trial: Trial) -> bool:
    """Return whether the best validation so far is below the median of complete trials at this epoch."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=MIN_COMPLETE, n_warmup_steps=MIN_EPOCHS)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.add_trials(_possible([other for other in trials if other.number != trial.number], distributions))
    return pruner.prune(study, _frozen(trial, distributions))


def _possible(trials: Sequence[Trial], distributions: dict[str, BaseDistribution]) -> list[FrozenTrial]:
    """Return the trials; without those whose settings the environment has made impossible since."""
    found: list[FrozenTrial] = []
    for trial in trials:
        with suppress(ValueError):
            found.append(_frozen(trial, distributions))
    return found


def _frozen(trial: Trial, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    return create_trial(
        state=_STATES.get(trial.state, TrialState.FAIL),
        params=trial.values,
        distributions=distributions,
        value=trial.score,
        intermediate_values=dict(enumerate(trial.curve, start=1)),
    )
