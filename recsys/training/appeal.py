"""Fit the weight of the items' appeal on lists that were shown later than those that it is counted from.

The likelihood of the next event in the whole catalogue cannot fit it. What nobody was shown has no appeal,
and even what most users pass over is chosen more often than that. So the weight is fitted among the items of
each list, beside the score without appeal. That score has a coefficient of its own, because it differs more
among the items of a list than their chances do. The weight is fitted in logits, and divided by those that a
unit of the score is worth. They come from the fit of the other weights, with its pull towards the defaults:
without it, they would be near 0 where few users say little, and appeal would outweigh everything.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from recsys.model.appeal import Appeal, place_rates
from recsys.model.fusion import APPEAL, Fusion, ndcg_of_ranks, target_ranks
from recsys.model.recent import EventLog
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.slates import Slates
from recsys.training.data import TrainingData
from recsys.training.split import LATE_SHARE, ValidationCases

MOST_SLATES = 1_000
MIN_USERS = 30
"""With fewer users whose later lists can be compared, there is no appeal."""
_LIKELY = 1.92
"""Gain of log-likelihood that appeal without an effect reaches in one of twenty fits (half of 3.84)."""
_STRONGEST = 3.0
_USERS_AT_A_TIME = 256

_log = logging.getLogger(__name__)


def fit_appeal(
    model: Recommender,
    slates: Slates | None,
    data: TrainingData,
    cases: ValidationCases,
    log: EventLog,
    k: int,
) -> dict[str, float]:
    """Give the model appeal, counted from all but the latest tenth of the slates, and its weight.

    Nothing changes if there are too few slates, if appeal explains the answers in the latest ones no better
    than chance, or if it makes the list of the whole catalogue worse (see `_harmless`).

    Parameters
    ----------
    slates
        Those shown before the held-out part of the feedback.
    cases, log, k
        Validation cases, all events, and the cut-off of NDCG, as for the other parts.

    Returns
    -------
    dict
        Metrics by name.
    """
    if slates is None or not len(slates) or not len(cases):
        return {}
    late_from = int(np.quantile(slates.shown_at, 1 - LATE_SHARE, method="higher"))
    early = slates.before(late_from)
    lists = _contested(slates, late_from, data.everything)
    users = len(set(lists.slates.user_keys))
    if not len(early) or users < MIN_USERS:
        _log.info("%d users have later lists with answers: too few to fit the appeal of items", users)
        return {}
    appeal = Appeal.fit(early, len(model.catalogue))
    shown = lists.slates
    scores = _scores_of_shown(model, lists, log)
    rates = place_rates(early)
    seen = np.log(np.append(rates, rates.mean())[np.minimum(shown.place, len(rates))])
    known = np.stack([scores, appeal.score()[shown.items]], axis=1, dtype=np.float64)
    likelihood_without, _ = _fit(known[:, :1], seen, shown)
    likelihood, (_, strength) = _fit(known, seen, shown)
    gained = likelihood - likelihood_without
    metrics = {"appeal_users": float(users), "appeal_gain": gained}
    if gained < _LIKELY:
        return metrics | {"fusion_appeal": 0.0}
    strength = _harmless(model, data, cases, log, appeal, strength, k)
    if not strength:
        return metrics | {"fusion_appeal": 0.0}
    model.appeal = appeal
    for name in ("fusion", "returning_fusion", "request_fusion"):
        fusion = getattr(model, name)
        weight = round(strength / fusion.unit, 4)
        setattr(model, name, Fusion({**fusion.weights, APPEAL: weight}, fusion.unit))
    return metrics | {"fusion_appeal": model.fusion.weights[APPEAL]}


@dataclass(frozen=True)
class _Lists:
    """Slates whose items can be compared, and `[slates]` what their users had done before."""

    slates: Slates
    histories: Sequences


def _contested(slates: Slates, late_from: int, everything: Sequence[Sequences]) -> _Lists:
    """Return the latest slates of known items of which some were answered and some were not."""
    sizes = np.maximum(np.diff(slates.offsets), 1)
    answers = np.bincount(slates.slate_of_item, slates.answered, len(slates))
    known = np.bincount(slates.slate_of_item, slates.items >= 0, len(slates)) == sizes
    rows = np.flatnonzero((slates.shown_at >= late_from) & known & (answers > 0) & (answers < sizes))
    if len(rows) > MOST_SLATES:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_SLATES).astype(np.int64)]
    chosen, histories = [np.zeros(0, dtype=np.int64)], []
    for part in everything:
        number = {key: user for user, key in enumerate(part.user_keys)}
        own = np.array([row for row in rows if slates.user_keys[row] in number], dtype=np.int64)
        theirs = part.take_users([number[key] for key in slates.user_keys[own]])
        shown_at = slates.shown_at[own]
        were_before = theirs.occurred_at < np.repeat(shown_at, theirs.lengths)
        chosen.append(own)
        histories.append(theirs.where(were_before).asked(shown_at))
    return _Lists(slates.take(np.concatenate(chosen)), Sequences.concat(histories))


def _scores(
    model: Recommender, histories: Sequences, log: EventLog
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], list[Fusion]]]:
    """Yield some of the histories, scores `[some, items]`, which the next ones overwrite, and weights."""
    scorer = model.scorer(log)
    for start in range(0, histories.users, _USERS_AT_A_TIME):
        rows = np.arange(start, min(start + _USERS_AT_A_TIME, histories.users))
        some = histories.take_users(rows)
        yield rows, scorer.score(scorer.user_vectors(some), some).cpu().numpy(), scorer.fusions(some)


def _scores_of_shown(model: Recommender, lists: _Lists, log: EventLog) -> NDArray[np.float32]:
    """Return `[shown]` the score of each item of the lists."""
    scores = np.empty(len(lists.slates.items), dtype=np.float32)
    for rows, found, _ in _scores(model, lists.histories, log):
        shown = slice(lists.slates.offsets[rows[0]], lists.slates.offsets[rows[-1] + 1])
        some = lists.slates.slate_of_item[shown] - rows[0]
        scores[shown] = found[some, lists.slates.items[shown]]
    return scores


def _fit(
    features: NDArray[np.float64], seen: NDArray[np.float64], slates: Slates
) -> tuple[float, NDArray[np.float64]]:
    """Fit a conditional logit of the answers within each slate; each user counts once.

    Parameters
    ----------
    features
        `[shown, features]`, each with a coefficient of at least 0.
    seen
        `[shown]` logarithm of the share of answers at the place.

    Returns
    -------
    tuple
        Log-likelihood, summed over users, and coefficients `[features]`.
    """
    slate, answered = slates.slate_of_item, slates.answered
    _, user, count = np.unique(slates.user_keys.astype(str), return_inverse=True, return_counts=True)
    worth = 1.0 / count[user]
    target = answered * (worth / np.bincount(slate, answered, len(slates)))[slate]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = features @ weights + seen
        highest = np.maximum.reduceat(scores, slates.offsets[:-1])
        chances = np.exp(scores - highest[slate])
        total = np.bincount(slate, chances)
        value = worth @ (np.log(total) + highest) - target @ scores
        return float(value), features.T @ (chances * (worth / total)[slate] - target)

    start = np.zeros(features.shape[1])
    bounds = [(0.0, _STRONGEST)] * len(start)
    fitted = scipy.optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return -float(fitted.fun), fitted.x


def _harmless(
    model: Recommender,
    data: TrainingData,
    cases: ValidationCases,
    log: EventLog,
    appeal: Appeal,
    strength: float,
    k: int,
) -> float:
    """Halve the logits of appeal until NDCG@k in the whole catalogue is not worse by over a standard error.

    Returns 0 if an eighth of them is still too much.
    """
    found = [
        (scores.copy(), [fusion.unit for fusion in used])
        for _, scores, used in _scores(model, cases.histories, log)
    ]
    scores = np.concatenate([some for some, _ in found])
    units = np.concatenate([units for _, units in found]).astype(np.float32)[:, None]
    excluded = cases.excluded(len(model.catalogue), data.known_items, model.catalogue)
    _, user, count = np.unique(cases.histories.user_keys.astype(str), return_inverse=True, return_counts=True)

    def quality(strength: float) -> NDArray[np.float64]:
        ranks = target_ranks(scores + np.float32(strength) / units * appeal.score(), cases.targets, excluded)
        return np.bincount(user, ndcg_of_ranks(ranks, k)) / count

    without = quality(0.0)
    for part in (1, 2, 4, 8):
        gain = quality(strength / part) - without
        if gain.mean() >= -gain.std() / np.sqrt(len(gain)):
            return strength / part
    return 0.0
