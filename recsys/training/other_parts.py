"""Fit what is not trained by gradients: closed-form parts, requests, and the weights of the parts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.model.collaborative import DISLIKE_SIGN, EASE, Popularity
from recsys.model.fusion import (
    COLLABORATIVE,
    LIKING,
    NEURAL,
    REQUEST,
    REQUEST_WEIGHTS,
    SUCCESSION,
    fit_fusion,
    ndcg_of_ranks,
    target_ranks,
)
from recsys.model.item_age import ItemAges
from recsys.model.live_interest import LiveInterest
from recsys.model.recent import HALF_LIVES_DAYS, EventLog, RecentPopularity
from recsys.model.recommender import Recommender
from recsys.model.repeats import Repeats, repeat_features
from recsys.model.succession import Succession
from recsys.settings import Settings
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.slates import Slates
from recsys.training.appeal import fit_appeal
from recsys.training.data import TrainingData
from recsys.training.live_interest import (
    USUAL_HALF_LIFE_DAYS,
    fit_live_interest,
    fit_trending_before_reaction,
    live_cases,
)
from recsys.training.requests import PhraseTable, fit_requests
from recsys.training.split import ValidationCases, VisitCases

_log = logging.getLogger(__name__)

MIN_LIKING = 0.05
MIN_COLLABORATIVE = 0.05
"""Smallest weights in the fusion, even if validation shows no gain: a dislike must have an effect.

Collaborative filtering may have none if the liking head reads dislikes, or if there are none.
"""
LEAST_GAIN_OF_SUCCESSION = 1.0
"""Standard errors by which validation must be better with what follows what."""
LEAST_GAIN_OF_COLLABORATIVE = -1.0
"""The same of collaborative filtering, which stays unless it is shown to do harm."""
LEAST_GAIN_OF_SHORT_TRENDS = 1.0
"""Standard errors by which validation must be better where what is trending fades sooner than by default."""
_FUSION_BYTES = 1 << 30
AnyCases = TypeVar("AnyCases", ValidationCases, VisitCases)


def fit_other_parts(
    model: Recommender, data: TrainingData, settings: Settings, slates: Slates | None = None
) -> dict[str, float]:
    """Fit requests, fusion and live interest to validation cases; closed-form parts know training events.

    `slates` are the lists that were shown in the time of the training and validation events, without those
    that answer a request.
    """
    n_items = len(model.catalogue)
    fit_closed_form(model, data.train, with_succession=True)
    metrics = fit_requests(model, settings.training.request_steps, settings.training.seed)
    cases = limited(data.cases, n_items)
    if len(cases):
        excluded = cases.excluded(n_items, data.known_items, model.catalogue)
        log = EventLog.of(data.everything)
        model.recent = choose_half_life(cases, log, excluded, settings.evaluation.k)
        model.live_interest = LiveInterest(
            trending_half_life_days=trending_half_life_days(
                cases, log, excluded, model.recent, settings.evaluation.k
            )
        )
        parts = model.parts(cases.histories, later=log)
        repeats = repeat_features(cases.histories, n_items)
        least = {LIKING: MIN_LIKING, COLLABORATIVE: MIN_COLLABORATIVE}
        if not data.has_likes_and_dislikes:
            parts.pop(LIKING)
            least.pop(LIKING)
        model.fusion, metrics["validation_ndcg_fused"] = fit_fusion(
            parts,
            cases.targets,
            excluded,
            cases.histories.user_keys,
            least=least,
            least_gains=least_gains(data),
            repeats=repeats,
            k=settings.evaluation.k,
        )
        if SUCCESSION not in model.fusion.weights:
            parts.pop(SUCCESSION, None)
        metrics |= _fit_request_fusion(model, cases, parts, repeats, excluded, settings)
        del parts, excluded  # as large as what the next fit needs
        metrics |= _fit_returning_fusion(model, data, log, least, settings)
        metrics |= fit_appeal(model, slates, data, cases, log, settings.evaluation.k)
        metrics |= _fit_live_interest(model, data, cases, log)
    _drop_succession_without_gain(model)
    weights = {f"fusion_{name}": weight for name, weight in model.fusion.weights.items() if name != NEURAL}
    live = asdict(model.live_interest).items()
    return metrics | weights | {f"live_{name}": value for name, value in live if value is not None}


def least_gains(data: TrainingData) -> dict[str, float]:
    """Return the parts that may be left out of the fusion, and what they must gain (see `fit_fusion`).

    The only part in which dislikes count is never left out.
    """
    may_lack_collaborative = data.has_likes_and_dislikes or not data.has_dislikes
    of_collaborative = {COLLABORATIVE: LEAST_GAIN_OF_COLLABORATIVE} if may_lack_collaborative else {}
    return {SUCCESSION: LEAST_GAIN_OF_SUCCESSION} | of_collaborative


def _drop_succession_without_gain(model: Recommender) -> None:
    """Neither count nor store what follows what if no users' lists read it."""
    fusions = model.fusion, model.returning_fusion, model.request_fusion
    if not any(fusion.weights.get(SUCCESSION) for fusion in fusions):
        model.succession = None


def _fit_returning_fusion(
    model: Recommender,
    data: TrainingData,
    log: EventLog,
    least: Mapping[str, float],
    settings: Settings,
) -> dict[str, float]:
    """Fit the fusion for users who come back; what is not seen of them is as for the others."""
    n_items = len(model.catalogue)
    cases = limited(data.returning, n_items)
    model.returning_fusion = model.fusion
    if not len(cases):
        return {}
    parts = model.parts(cases.histories, later=log)
    if not data.has_likes_and_dislikes:
        parts.pop(LIKING)
    model.returning_fusion, ndcg = fit_fusion(
        parts, cases.targets, cases.excluded(n_items, data.known_items, model.catalogue),
        cases.histories.user_keys, case=cases.visit, prior=model.fusion.weights, least=least,
        least_gains=least_gains(data), repeats=repeat_features(cases.histories, n_items),
        k=settings.evaluation.k,
    )  # fmt: skip
    weights = model.returning_fusion.weights.items()
    return {"validation_ndcg_returning": ndcg} | {
        f"returning_fusion_{name}": weight for name, weight in weights if name != NEURAL
    }


def _fit_live_interest(
    model: Recommender, data: TrainingData, cases: ValidationCases, log: EventLog
) -> dict[str, float]:
    """Fit all of live interest but the half-life of what is trending, which the model has."""
    live, figures = fit_live_interest(live_cases(model, cases, data.everything, log))
    unprompted = live_cases(model, cases, data.everything, log, reacted=False)
    before, figures_before = fit_trending_before_reaction(unprompted)
    model.live_interest = replace(
        live,
        trending_half_life_days=model.live_interest.trending_half_life_days,
        trending_before_reaction=before,
    )
    return figures | figures_before


def _fit_request_fusion(
    model: Recommender,
    cases: ValidationCases,
    parts: Mapping[str, NDArray[np.float32]],
    repeats: Repeats,
    excluded: NDArray[np.bool_],
    settings: Settings,
) -> dict[str, float]:
    """Fit the fusion for users with a request.

    Each case requests one of its target's attribute values, matched as if no item had that value.
    """
    if model.request_vectors is None or not settings.training.request_steps:
        return {}
    table = PhraseTable(model.requests, model.catalogue)
    phrases = table.sample_phrases(cases.targets, settings.training.seed)
    rows = np.flatnonzero(phrases >= 0)
    if not len(rows):
        return {}
    matches = table.match(model.requests, phrases[rows], model.request_vectors).cpu().numpy()
    model.request_fusion, ndcg = fit_fusion(
        {name: part[rows] for name, part in parts.items()} | {REQUEST: matches},
        cases.targets[rows], excluded[rows], cases.histories.user_keys[rows],
        prior=REQUEST_WEIGHTS, least={LIKING: MIN_LIKING} if LIKING in parts else {},
        repeats=repeats.take(rows), k=settings.evaluation.k,
    )  # fmt: skip
    return {"validation_ndcg_with_request": ndcg, "fusion_request": model.request_fusion.weights[REQUEST]}


def choose_half_life(
    cases: ValidationCases, log: EventLog, excluded: NDArray[np.bool_], k: int
) -> RecentPopularity:
    """Return recent popularity, still without counts, of the half-life that ranks the targets best."""

    def quality(recent: RecentPopularity) -> float:
        scores = recent.scores_at(log, cases.histories.moments)
        return float(ndcg_of_ranks(target_ranks(scores, cases.targets, excluded), k).mean())

    nothing = np.zeros(excluded.shape[1])
    return max((RecentPopularity(nothing, 0, days) for days in HALF_LIVES_DAYS), key=quality)


def trending_half_life_days(
    cases: ValidationCases, log: EventLog, excluded: NDArray[np.bool_], recent: RecentPopularity, k: int
) -> float | None:
    """Return the half-life of what is trending: the chosen one if shorter than usual and better; or None."""
    if recent.half_life_days >= USUAL_HALF_LIFE_DAYS:
        return None
    _, users = np.unique(cases.histories.user_keys, return_inverse=True)
    gain = np.zeros(len(cases))
    for counts, sign in ((recent, 1), (replace(recent, half_life_days=USUAL_HALF_LIFE_DAYS), -1)):
        scores = counts.scores_at(log, cases.histories.moments)
        gain += sign * ndcg_of_ranks(target_ranks(scores, cases.targets, excluded), k)
    gain = np.bincount(users, gain) / np.bincount(users)
    needed = LEAST_GAIN_OF_SHORT_TRENDS * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    return recent.half_life_days if gain.mean() > needed else None


def fit_closed_form(model: Recommender, sequences: Sequence[Sequences], *, with_succession: bool) -> None:
    """Fit popularity, ages, collaborative filtering and, if wanted, what follows what."""
    n_items = len(model.catalogue)
    model.popularity = Popularity.fit(sequences, n_items)
    model.ages = ItemAges.fit(sequences, n_items)
    if model.recent is not None:
        model.recent = RecentPopularity.fit(sequences, n_items, model.recent.half_life_days)
    model.update_proxies()
    if not model.settings.collaborative_pairs:
        _log.info(
            "collaborative filtering and what follows what are left out: "
            "RECSYS_MODEL__COLLABORATIVE_PAIRS is 0"
        )
        model.collaborative = model.succession = None
        return
    pairs = model.settings.collaborative_pairs
    model.succession = Succession.fit(sequences, n_items, pairs) if with_succession else None
    model.collaborative = EASE.fit(
        sequences,
        n_items,
        model.settings.collaborative_penalty,
        negative=DISLIKE_SIGN,
        keep_counts=True,
        max_pairs=pairs,
    )


def limited(cases: AnyCases, n_items: int) -> AnyCases:
    """Return as many cases as can be scored on all items within the memory limit."""
    most = max(50, _FUSION_BYTES // (n_items * 4 * 10))
    if len(cases) <= most:
        return cases
    chosen = np.linspace(0, len(cases) - 1, most).astype(np.int64)
    return cases.take(chosen)
