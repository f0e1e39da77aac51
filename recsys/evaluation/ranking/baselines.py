"""Baselines for a candidate, tuned on the latest part of the events that it trained on."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np

from recsys.errors import EvaluationError
from recsys.evaluation.ranking.cases import held_out_cases
from recsys.evaluation.ranking.evaluate import mean_ndcg
from recsys.evaluation.ranking.scorer import Scorer
from recsys.model.collaborative import EASE, Popularity
from recsys.settings import EvaluationSettings
from recsys.snapshot.holdout import late_from
from recsys.snapshot.parts import PartsBefore
from recsys.snapshot.sequences import Catalogue, Sequences, microseconds, parts_of

POPULARITY = "popularity"
COLLABORATIVE_FILTERING = "collaborative_filtering"

_Option = TypeVar("_Option")

_HALF_LIVES_DAYS = (None, 180.0, 30.0, 7.0, 1.0)
_PENALTIES = (100.0, 25.0, 400.0)
"""L2 penalties of EASE, the default first."""
_MAX_TUNED_ITEMS = 5_000
"""Larger catalogues use the default penalty: each further penalty costs another fit."""
_TUNING_SHARE = 0.1
"""Latest share of the events that options are compared on."""
_TUNING_USERS = 1_000
_TUNING_CASES_PER_USER = 3


def fit_baselines(
    sequences: Sequences | Sequence[Sequences],
    catalogue: Catalogue,
    held_out_from: datetime,
    settings: EvaluationSettings,
) -> dict[str, Scorer]:
    """Fit popularity and collaborative filtering on the events before `held_out_from`.

    The half-life of popularity and the penalty of EASE are chosen on the latest tenth of these events. The
    baselines are then fitted on all of them.

    Parameters
    ----------
    sequences
        Events of all users, or parts with some of the users; one part is loaded at a time.
    """
    trained = PartsBefore(parts_of(sequences), held_out_from)
    tune_from = _tuning_split(trained, held_out_from)
    early = PartsBefore(trained, tune_from)
    baselines: dict[str, Scorer] = {}

    half_life = _best(
        _HALF_LIVES_DAYS, lambda days: _popularities(early, catalogue, tune_from, days),
        trained, catalogue, tune_from, settings,
    )  # fmt: skip
    [baselines[POPULARITY]] = _popularities(trained, catalogue, held_out_from, [half_life])

    penalty = _PENALTIES[0]
    if len(catalogue) <= _MAX_TUNED_ITEMS:
        penalty = _best(
            _PENALTIES,
            lambda penalties: [EASE.fit(early, len(catalogue), chosen) for chosen in penalties],
            trained, catalogue, tune_from, settings,
        )  # fmt: skip
    baselines[COLLABORATIVE_FILTERING] = EASE.fit(trained, len(catalogue), penalty)
    return baselines


def _best(
    options: tuple[_Option, ...],
    fit: Callable[[Sequence[_Option]], Sequence[Scorer]],
    trained: Sequence[Sequences],
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
    scorers: Mapping[str, Scorer] = {str(number): scorer for number, scorer in enumerate(fit(options))}
    results = mean_ndcg(scorers, cases, settings.k)
    return options[int(np.argmax([results[name] for name in scorers]))]


def _tuning_split(trained: Sequence[Sequences], held_out_from: datetime) -> datetime:
    latest = late_from(trained, _TUNING_SHARE)
    if latest is None:
        return held_out_from
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=latest)


def _popularities(
    trained: Sequence[Sequences],
    catalogue: Catalogue,
    now: datetime,
    half_lives_days: Sequence[float | None],
) -> list[Popularity]:
    """Return the popularity that is left at `now` for each half-life; None: of all times alike."""
    counts = np.zeros((len(half_lives_days), len(catalogue)))
    for part in trained:
        wanted = part.sentiment >= 0
        items, age_days = part.item_index[wanted], (microseconds(now) - part.occurred_at[wanted]) / 86_400e6
        for number, days in enumerate(half_lives_days):
            weights = None if days is None else 0.5 ** (age_days / days)
            counts[number] += np.bincount(items, weights=weights, minlength=len(catalogue))
        del part  # frees it before another one is loaded
    return [Popularity(row.astype(np.float32)) for row in counts]
