"""Fit the weights of live interest: how much what a user did since their list was published counts.

A validation case becomes a user who reads a list of last midnight and has reacted since then, or has not.
Candidates and scores are those of `sql/serving/functions/live_ranking.sql`. As for the weights of the parts
of a score (`recsys.model.fusion`), the likelihood of the item that was chosen next is maximised.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from recsys.model.fusion import ndcg_of_ranks
from recsys.model.live_interest import LiveInterest
from recsys.model.ranking import mask_hidden
from recsys.model.recent import EventLog, RecentPopularity
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import hidden_items
from recsys.training.split import ValidationCases
from recsys.training.together import DAY, Together

POOL = 200
TRENDING = 60
"""Items of the trending list that come in."""
USUAL_HALF_LIFE_DAYS = 7 / 4
"""Of what is trending, with the default of RECSYS_SERVING__TRENDING_DAYS."""
_REACTIONS = 20
_READ = 50
_BESIDE = 50
"""Items that people had together with what weighs most; of others fewer in proportion. A reaction without any
says nothing."""
_ALIKE = 100
"""Items of the pool whose vectors are compared."""
_MOST_CASES = 1_000
_PRIOR_USERS = 1.0
_BOUNDS = ((0.0, 10.0), (0.1, 0.98), (0.0, 100.0), (-3.0, 2.0))
_SCALES = np.array([3.0, 0.3, 1.0])
"""Differences that the prior counts alike."""
_BATCH = 256
LEAST_GAIN_BEFORE_REACTION = 2.0
"""Standard errors by which validation must be better with what is trending in lists of those who have not
reacted."""


List = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Items that people had together with one, best first, and their cosines over people."""


@dataclass(frozen=True, eq=False)
class LiveCase:
    """A list at the moment of reading.

    Attributes
    ----------
    user
        Key of the user.
    items
        [candidates] items of the pool, what goes with the reactions, and what is trending.
    target
        Place of the item that was chosen next among the candidates; -1: it is none of them.
    odds, trending
        [candidates] 1 / the place in the pool, and 1 / the place among what is trending or 0.
    together
        [candidates, reactions] cosines over people; NaN: the item itself was reacted to.
    alike
        [candidates, reactions without a list] cosines of vectors; NaN: not compared.
    among
        [reactions without a list, same] cosines of the vectors of what was reacted to.
    has_list
        [reactions] whether people had anything together with the item.
    weight, age
        [reactions] weight before decay, and number of newer events.
    shown
        [candidates] whether the item may be shown now.
    """

    user: str
    items: NDArray[np.int64]
    target: int
    odds: NDArray[np.float64]
    trending: NDArray[np.float64]
    together: NDArray[np.float64]
    alike: NDArray[np.float64]
    among: NDArray[np.float64]
    has_list: NDArray[np.bool_]
    weight: NDArray[np.float64]
    age: NDArray[np.int64]
    shown: NDArray[np.bool_]

    def scores(self, live: LiveInterest) -> NDArray[np.float64]:
        """Return [candidates] what `serving.live_ranking` orders by; minus infinity: not shown."""
        weight = self.weight * live.decay**self.age
        amount = np.abs(weight).sum() + 1
        by_lists = np.abs(weight[self.has_list]).sum()
        scores = np.log(self.odds + live.trending * self.trending)
        scores += live.strength * by_lists / amount * _in_deviations(self.together @ weight)
        others = weight[~self.has_list]
        if len(others):
            length = np.sqrt(max(float(others @ self.among @ others), 1e-12))
            part = live.strength * 2 / 3 * np.abs(others).sum() / amount
            scores += part * _in_deviations(self.alike @ others / length)
        return np.where(self.shown, scores, -np.inf)


def make_case(
    *,
    user: str,
    target: int,
    pool: NDArray[np.int64],
    trending: NDArray[np.int64],
    reacted: NDArray[np.int64],
    weight: NDArray[np.float64],
    age: NDArray[np.int64],
    lists: Sequence[List],
    vectors: NDArray[np.float64],
    had: NDArray[np.int64],
    hidden: NDArray[np.int32],
) -> LiveCase:
    """Choose the candidates as `serving.live_ranking` does, and compute what their scores need.

    Parameters
    ----------
    target
        Item that was chosen next.
    pool, trending
        Items, best first.
    reacted, weight, age
        [reactions] items, latest first, with weights before decay and numbers of newer events.
    lists
        [reactions] lists of the items.
    vectors
        [items, dim] of length 1.
    had, hidden
        Items that the user has had, and those that are off the lists.
    """
    decayed = weight * LiveInterest().decay ** age
    most = np.rint(_BESIDE * np.abs(decayed) / (np.abs(decayed).max(initial=0.0) or 1.0)).astype(int)
    said = np.flatnonzero(most)
    reacted, weight, age, decayed = reacted[said], weight[said], age[said], decayed[said]
    lists = [(lists[one][0][: most[one]], lists[one][1][: most[one]]) for one in said.tolist()]
    outside = _outside(lists, decayed, np.concatenate([pool, had]))
    coming = trending[~np.isin(trending, np.concatenate([pool, outside, had]))]
    items = np.concatenate([pool, outside, coming])
    place = np.minimum(np.arange(len(items)), len(pool)) + 1
    index = {item: number for number, item in enumerate(items.tolist())}
    trend = np.zeros(len(items))
    for number, item in enumerate(trending.tolist(), 1):
        if item in index:
            trend[index[item]] = 1.0 / number
    together = np.zeros((len(items), len(reacted)))
    for column, (others, cosines) in enumerate(lists):
        for item, cosine in zip(others.tolist(), cosines.tolist(), strict=True):
            if item in index:
                together[index[item], column] = cosine
    again = np.isin(items, reacted)
    together[again] = np.nan
    has_list = np.array([len(others) > 0 for others, _ in lists], dtype=bool)
    of_reacted = vectors[reacted[~has_list]]
    alike = vectors[items] @ of_reacted.T
    alike[again | (place > min(_ALIKE, len(pool)))] = np.nan
    found = index.get(target, -1)
    shown = ~np.isin(items, hidden)
    if found >= 0:
        shown[found] = True
    return LiveCase(
        user=user,
        items=items,
        target=found,
        odds=1.0 / place,
        trending=trend,
        together=together,
        alike=alike,
        among=of_reacted @ of_reacted.T,
        has_list=has_list,
        weight=weight,
        age=age,
        shown=shown,
    )


def _outside(
    lists: Sequence[List], weight: NDArray[np.float64], known: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return what goes with the reactions and is not among the known items, best first."""
    if not lists:
        return np.zeros(0, dtype=np.int64)
    items = np.concatenate([others for others, _ in lists])
    values = np.concatenate([cosines * part for (_, cosines), part in zip(lists, weight, strict=True)])
    found, number = np.unique(items, return_inverse=True)
    score = np.bincount(number, values, minlength=len(found))
    best = found[np.argsort(-score, kind="stable")][: (score > 0).sum()]
    return best[~np.isin(best, known)]


def _in_deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    if not known.any() or (deviation := values[known].std()) < 1e-9:
        return np.zeros(len(values))
    return np.where(known, (values - values[known].mean()) / deviation, 0.0)


def fit_live_interest(cases: Sequence[LiveCase]) -> tuple[LiveInterest, dict[str, float]]:
    """Return the weights under which the chosen items are most likely, and figures of the fit.

    Each user counts once, and a few users hardly move the weights away from the defaults. How sharply people
    choose among the candidates is fitted too, though it has no effect on an order: without it, weights would
    be the smaller the noisier the choices are.

    Returns
    -------
    tuple of LiveInterest, dict
        Weights, and NDCG@10 of the cases as published, with the default weights and with these (mean over
        users). Without cases: the default weights, and no figures.
    """
    if not cases:
        return LiveInterest(), {}
    _, owner = np.unique(np.array([case.user for case in cases]), return_inverse=True)
    counts = np.bincount(owner)
    share = 1.0 / (counts[owner] * len(counts))
    default = np.array([LiveInterest().strength, LiveInterest().decay, LiveInterest().trending])

    def loss(values: NDArray[np.float64]) -> float:
        live, sharpness = LiveInterest(*values[:3].tolist()), np.exp(values[3])
        total = 0.0
        for case, part in zip(cases, share, strict=True):
            if case.target >= 0:
                scores = sharpness * case.scores(live)
                top = scores.max()
                total += part * (top + np.log(np.exp(scores - top).sum()) - scores[case.target])
        far = (np.array([values[0], values[1], np.log1p(values[2])]) - default) / _SCALES
        return float(total + _PRIOR_USERS / len(counts) * (far @ far))

    start = np.array([default[0], default[1], 0.5, -1.0])
    found = scipy.optimize.minimize(loss, start, bounds=_BOUNDS, method="L-BFGS-B", options={"maxiter": 50}).x
    live = LiveInterest(*(round(float(value), 4) for value in found[:3]))
    figures = {
        name: float(share @ _ndcg(cases, weights))
        for name, weights in {
            "validation_ndcg_as_published": LiveInterest(strength=0.0),
            "validation_ndcg_live_by_default": LiveInterest(),
            "validation_ndcg_live": live,
        }.items()
    }
    return live, figures


def fit_trending_before_reaction(cases: Sequence[LiveCase]) -> tuple[float, dict[str, float]]:
    """Return the weight of what is trending for users who have not reacted, and figures of the fit.

    It is 0 unless NDCG@10 of the cases is better with it by more than `LEAST_GAIN_BEFORE_REACTION` standard
    errors: such lists are not looked up as they were published, which takes longer.
    """
    if not cases:
        return 0.0, {}
    found, _ = fit_live_interest(cases)
    _, owner = np.unique(np.array([case.user for case in cases]), return_inverse=True)
    published, live = (
        np.bincount(owner, _ndcg(cases, weights)) / np.bincount(owner)
        for weights in (LiveInterest(trending=0.0), found)
    )
    gain = live - published
    needed = LEAST_GAIN_BEFORE_REACTION * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    figures = {
        "validation_ndcg_before_reaction_as_published": float(published.mean()),
        "validation_ndcg_before_reaction": float(live.mean()),
    }
    return (found.trending if gain.mean() > needed else 0.0), figures


def _ndcg(cases: Sequence[LiveCase], live: LiveInterest) -> NDArray[np.float64]:
    ranks = np.full(len(cases), np.iinfo(np.int32).max)
    for number, case in enumerate(cases):
        if case.target >= 0:
            scores = case.scores(live)
            ranks[number] = (scores >= scores[case.target]).sum()
    return ndcg_of_ranks(ranks, 10)


def live_cases(
    model: Recommender,
    cases: ValidationCases,
    train: Sequence[Sequences],
    log: EventLog,
    *,
    reacted: bool = True,
) -> list[LiveCase]:
    """Return the cases whose user has reacted since midnight (UTC), when the list was published.

    Parameters
    ----------
    model
        Has trained on `train`.
    cases
        Validation cases.
    train
        Training events, for what people had together.
    log
        The same events, for what is trending.
    reacted
        False: instead the cases whose user has a history and has not reacted since then.
    """
    midnight = cases.histories.moments // DAY * DAY
    latest = np.zeros(len(cases), dtype=np.int64)
    some = cases.histories.lengths > 0
    latest[some] = cases.histories.occurred_at[cases.histories.offsets[1:][some] - 1]
    rows = np.flatnonzero(some & ((latest >= midnight) == reacted))
    if len(rows) > _MOST_CASES:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_CASES).astype(np.int64)]
    if not len(rows):
        return []
    cases, midnight = cases.take(rows), midnight[rows]
    builder = _Builder(model, cases, midnight, train, log)
    n_items = len(model.catalogue)
    half_life_days = model.live_interest.trending_half_life_days or USUAL_HALF_LIFE_DAYS
    trends = RecentPopularity(np.zeros(n_items), 0, half_life_days)
    result = []
    for begin in range(0, len(rows), _BATCH):
        some_rows = np.arange(begin, min(begin + _BATCH, len(rows)))
        pools = builder.pools(some_rows)
        trending = trends.scores_at(log, cases.histories.moments[some_rows])
        for row, pool, trend in zip(some_rows.tolist(), pools, trending, strict=True):
            best = np.argsort(-trend, kind="stable")[:TRENDING]
            case = builder.case(row, pool, best[trend[best] > 0])
            if len(case.weight) or not reacted:
                result.append(case)
    return result


class _Builder:
    """Makes live cases of validation cases that were published at `midnight` [cases]."""

    def __init__(
        self,
        model: Recommender,
        cases: ValidationCases,
        midnight: NDArray[np.int64],
        train: Sequence[Sequences],
        log: EventLog,
    ) -> None:
        self._cases, self._midnight = cases, midnight
        self._scorer = model.scorer(log)
        histories = cases.histories
        vectors = self._scorer.item_vectors.astype(np.float64)
        self._vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        since = histories.occurred_at >= midnight[histories.event_users()]
        self._together = Together(
            train, np.unique(histories.item_index[since]).astype(np.int64), len(model.catalogue)
        )
        self._lists: dict[tuple[int, int], List] = {}
        user, item = hidden_items(histories)
        order = np.argsort(user, kind="stable")
        self._hidden = item[order]
        self._hidden_from = np.searchsorted(user[order], np.arange(len(cases) + 1))

    def pools(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the pool of each of some cases, best first."""
        histories = self._cases.histories.take_users(rows)
        midnight = self._midnight[rows]
        known = histories.where(histories.occurred_at < midnight[histories.event_users()]).asked(midnight)
        scores = self._scorer.score(self._scorer.user_vectors(known), known).cpu().numpy().copy()
        mask_hidden(scores, known)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :POOL]
        return [
            row[np.isfinite(values[row])].astype(np.int64) for row, values in zip(best, scores, strict=True)
        ]

    def case(self, row: int, pool: NDArray[np.int64], trending: NDArray[np.int64]) -> LiveCase:
        """Return one case; its reactions are those that say something."""
        histories, at = self._cases.histories, int(self._midnight[row])
        first, last = histories.offsets[row], histories.offsets[row + 1]
        events = np.arange(first, last)[::-1]
        events = events[histories.occurred_at[events] >= at][:_READ]
        disliked = histories.sentiment[events] < 0
        says = np.flatnonzero(disliked | (histories.weight[events] > 0))[:_REACTIONS]
        reacted = histories.item_index[events[says]].astype(np.int64)
        weight = np.where(disliked, -1.0, histories.weight[events])[says].astype(np.float64)
        hidden = self._hidden[self._hidden_from[row] : self._hidden_from[row + 1]]
        return make_case(
            user=str(histories.user_keys[row]),
            target=int(self._cases.targets[row]),
            pool=pool,
            trending=trending,
            reacted=reacted,
            weight=weight,
            age=says,
            lists=[self._list(int(item), at) for item in reacted],
            vectors=self._vectors,
            had=histories.item_index[first:last].astype(np.int64),
            hidden=hidden,
        )

    def _list(self, item: int, before: int) -> List:
        key = item, before
        if key not in self._lists:
            self._lists[key] = self._together.of(item, before)
        return self._lists[key]
