"""Baselines for a candidate, tuned on the latest part of the events that it trained on."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np

from recsys.errors import EvaluationError
from recsys.evaluation.ranking.cases import held_out_cases
from recsys.evaluation.ranking.evaluate import mean_ndcg
from recsys.evaluation.ranking.scorer import Scorer
from recsys.model.collaborative import EASE, Popularity
from recsys.settings import EvaluationSettings
from recsys.snapshot.sequences import Catalogue, Sequences, microseconds

POPULARITY = "popularity"
COLLABORATIVE_FILTERING = "collaborative_filtering"

_Option = TypeVar("_Option")

_HALF_LIVES_DAYS = (None, 180.0, 30.0, 7.0, 1.0)
_PENALTIES = (100.0, 25.0, 400.0)
"""L2 penalties of EASE, the default first."""
_MAX_TUNED_ITEMS = 5_000
"""Larger catalogues use the default penalty: each further penalty costs another fit."""
_TUNING_USERS = 1_000
_TUNING_CASES_PER_USER = 3


def fit_baselines(
    sequences: Sequences, catalogue: Catalogue, held_out_from: datetime, settings: EvaluationSettings
) -> dict[str, Scorer]:
    """Fit popularity and collaborative filtering on the events before `held_out_from`.

    The half-life of popularity and the penalty of EASE are chosen on the latest tenth of these events. The
    baselines are then fitted on all of them.
    """
    trained = sequences.before(held_out_from)
    tune_from = _tuning_split(trained, held_out_from)
    baselines: dict[str, Scorer] = {}

    half_life = _best(
        _HALF_LIVES_DAYS, lambda days: _popularity(trained.before(tune_from), catalogue, tune_from, days),
        trained, catalogue, tune_from, settings,
    )  # fmt: skip
    baselines[POPULARITY] = _popularity(trained, catalogue, held_out_from, half_life)

    penalty = _PENALTIES[0]
    if len(catalogue) <= _MAX_TUNED_ITEMS:
        penalty = _best(
            _PENALTIES, lambda chosen: EASE.fit(trained.before(tune_from), len(catalogue), chosen),
            trained, catalogue, tune_from, settings,
        )  # fmt: skip
    baselines[COLLABORATIVE_FILTERING] = EASE.fit(trained, len(catalogue), penalty)
    return baselines


def _best(
    options: tuple[_Option, ...],
    fit: Callable[[_Option], Scorer],
    trained: Sequences,
    catalogue: Catalogue,
    tune_from: datetime,
    settings: EvaluationSettings,
) -> _Option:
    """Return the option whose scorer has the best NDCG after `tune_from`; the first without such events."""
    few = settings.model_copy(
        update={"max_users": _TUNING_USERS, "max_cases_per_user": _TUNING_CASES_PER_USER}
    )
    try:
        cases = held_out_cases(trained, catalogue, tune_from, few)
    except EvaluationError:
        return options[0]
    scorers: Mapping[str, Scorer] = {str(number): fit(option) for number, option in enumerate(options)}
    results = mean_ndcg(scorers, cases, settings.k)
    return options[int(np.argmax([results[name] for name in scorers]))]


def _tuning_split(trained: Sequences, held_out_from: datetime) -> datetime:
    if trained.events == 0:
        return held_out_from
    latest = int(np.quantile(trained.occurred_at, 0.9))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=latest)


def _popularity(
    trained: Sequences, catalogue: Catalogue, now: datetime, half_life_days: float | None
) -> Popularity:
    if half_life_days is None:
        return Popularity.fit(trained, len(catalogue))
    wanted = trained.sentiment >= 0
    age_days = (microseconds(now) - trained.occurred_at[wanted]) / 86_400e6
    counts = np.bincount(
        trained.item_index[wanted], weights=0.5 ** (age_days / half_life_days), minlength=len(catalogue)
    )
    return Popularity(counts.astype(np.float32))
