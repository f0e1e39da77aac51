"""Rank the same cases with several scorers and average the metrics per user."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recsys.evaluation.bootstrap import mean_intervals
from recsys.evaluation.ranking.cases import Cases
from recsys.evaluation.ranking.metrics import (
    are_valid,
    case_metric_names,
    case_metrics,
    coverage_name,
    diversity,
    gini,
    gini_name,
    metric_names,
    ndcg_name,
    novelty,
    ranks,
    require_shape,
    user_means,
)
from recsys.evaluation.ranking.scorer import Scorer
from recsys.evaluation.result import Evaluation, Figure, SliceResult
from recsys.model.ranking import NO_ITEM, mask_hidden, mask_unavailable, top_k
from recsys.settings import EvaluationSettings
from recsys.snapshot.parts import sortable

logger = logging.getLogger(__name__)

_BATCH_CASES = 512
_BATCH_SCORES = 1 << 23  # 32 MiB of scores at most, whatever the catalogue


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Ranks and lists of one scorer.

    Attributes
    ----------
    rank
        [cases] rank of the target, 1 is best.
    lists
        [users with cases, k] list of each user's latest case; users in increasing order.
    """

    rank: NDArray[np.int64]
    lists: NDArray[np.int32]


def evaluate(
    scorers: Mapping[str, Scorer],
    cases: Cases,
    settings: EvaluationSettings,
    champion_version: str | None = None,
    features: scipy.sparse.csr_matrix | None = None,
) -> Evaluation:
    """Rank the cases with every scorer.

    Parameters
    ----------
    scorers
        By name; the candidate is `CANDIDATE`, the champion `CHAMPION`. They score the catalogue that the
        cases were made with.
    cases
        The same for all scorers.
    champion_version
        Model version of the champion, stored with the result.
    features
        [items, features] from `recsys.evaluation.ranking.slices.item_features`; without them the diversity
        of lists is NaN.

    Returns
    -------
    Evaluation
        A scorer with NaN or infinite scores is in `failures` and has NaN metrics, so the gate can reject
        it by name. Other scorers are not affected.
    """
    ranking, failures = _rank_all(scorers, cases, settings.k)
    names, k = tuple(scorers), settings.k
    width = len(case_metric_names(k))
    per_case = np.full((len(cases), len(names), width), np.nan)
    evaluated = np.unique(cases.users)
    of_lists = np.full((len(evaluated), len(names), len(metric_names(k)) - width), np.nan)
    popularity = _popularity(cases)
    recommendable = max(int(cases.available.sum()), 1)
    coverage = dict.fromkeys(names, float("nan"))
    concentration = dict.fromkeys(names, float("nan"))
    for number, name in enumerate(names):
        if name in failures:
            continue
        per_case[:, number] = case_metrics(ranking[name].rank, k)
        lists = ranking[name].lists
        of_lists[:, number, 0] = novelty(lists, popularity)
        if features is not None:
            of_lists[:, number, 1] = diversity(lists, features)
        exposure = np.bincount(lists[lists != NO_ITEM], minlength=len(cases.available))
        coverage[name] = float(np.count_nonzero(exposure) / recommendable)
        concentration[name] = gini(exposure[cases.available])
    slices = {}
    for name, members in cases.slices.items():
        users, counts, means = user_means(
            per_case[members].reshape(-1, len(names) * width), cases.users[members]
        )
        values = means.reshape(-1, len(names), width)
        values = np.concatenate([values, of_lists[np.searchsorted(evaluated, users)]], axis=2)
        slices[name] = SliceResult(cases.sequences.user_keys[users], counts, values)
    catalogue = {coverage_name(k): coverage, gini_name(k): concentration}
    return Evaluation(
        k=k,
        scorers=names,
        slices=slices,
        coverage=coverage,
        failures=failures,
        champion_version=champion_version,
        figures=tuple(_figures(names, slices, catalogue, settings)),
    )


def mean_ndcg(scorers: Mapping[str, Scorer], cases: Cases, k: int) -> dict[str, float]:
    """Return the NDCG@k of each scorer, averaged per user; minus infinity for a scorer that failed."""
    ranking, failures = _rank_all(scorers, cases, k)
    column = case_metric_names(k).index(ndcg_name(k))
    return {
        name: float("-inf")
        if name in failures
        else float(user_means(case_metrics(ranking[name].rank, k)[:, [column]], cases.users)[2].mean())
        for name in scorers
    }


def _rank_all(
    scorers: Mapping[str, Scorer], cases: Cases, k: int
) -> tuple[dict[str, _Ranking], dict[str, str]]:
    items = len(cases.available)
    evaluated = np.unique(cases.users)
    ranking = {
        name: _Ranking(
            np.zeros(len(cases), dtype=np.int64), np.full((len(evaluated), k), NO_ITEM, dtype=np.int32)
        )
        for name in scorers
    }
    failures: dict[str, str] = {}
    latest = cases.latest_of_users()
    # Batches of histories of similar length waste little padding.
    lengths = cases.positions - cases.sequences.offsets[cases.users]
    order = np.argsort(lengths, kind="stable")
    batch = max(1, min(_BATCH_CASES, _BATCH_SCORES // max(items, 1)))
    for start in range(0, len(cases), batch):
        chosen = order[start : start + batch]
        histories = cases.histories(chosen)
        for name, scorer in scorers.items():
            if name in failures:
                continue
            given = np.asarray(scorer.score(histories))
            require_shape(given, len(chosen), items)
            if not are_valid(given):
                failures[name] = "scores contain NaN or infinity"
                logger.warning("the scores of %s contain NaN or infinity: it is not evaluated", name)
                continue
            scores = mask_hidden(given.astype(np.float32, copy=True), histories)
            scores = mask_unavailable(scores, cases.catalogue, histories.moments)
            ranking[name].rank[chosen] = ranks(scores, cases.targets[chosen])
            last = latest[chosen]
            if last.any():
                owners = np.searchsorted(evaluated, cases.users[chosen[last]])
                ranking[name].lists[owners], _ = top_k(scores[last], k)
    return ranking, failures


def _popularity(cases: Cases) -> NDArray[np.float64]:
    """Return [items] the share of users who know the item, from the events before their first case."""
    with_cases = np.unique(cases.users)
    starts = cases.sequences.offsets[with_cases]
    first = np.full(cases.sequences.users, np.iinfo(np.int64).max)
    np.minimum.at(first, cases.users, cases.positions)
    before = first[with_cases] - starts
    keys = sortable(cases.sequences.user_keys[with_cases])
    order = np.argsort(keys, kind="stable")
    items = len(cases.available)
    counts, users = np.zeros(items, dtype=np.int64), 0
    for part in cases.parts:
        length = part.lengths.copy()
        place = np.minimum(np.searchsorted(keys, sortable(part.user_keys), sorter=order), len(order) - 1)
        found = keys[order[place]] == sortable(part.user_keys)
        length[found] = before[order[place[found]]]
        owners = part.event_users()
        known = np.arange(part.events) - part.offsets[owners] < length[owners]
        pairs = np.unique(owners[known] * items + part.item_index[known])
        counts += np.bincount(pairs % items, minlength=items)
        users += part.users
        del part  # frees it before another one is loaded
    return np.maximum(counts, 0.5) / max(users, 1)


def _figures(
    names: tuple[str, ...],
    slices: Mapping[str, SliceResult],
    catalogue: Mapping[str, Mapping[str, float]],
    settings: EvaluationSettings,
) -> list[Figure]:
    figures = []
    metrics = metric_names(settings.k)
    for slice_name, result in slices.items():
        users = len(result.user_keys)
        flat = result.values.reshape(users, len(names) * len(metrics))
        intervals = mean_intervals(flat, settings.bootstrap_resamples, settings.confidence)
        labels = [(scorer, metric) for scorer in names for metric in metrics]
        figures += [
            Figure(scorer, slice_name, metric, interval.value, interval.low, interval.high, users)
            for (scorer, metric), interval in zip(labels, intervals, strict=True)
        ]
    main = next(iter(slices))
    users = len(slices[main].user_keys)
    nan = float("nan")
    figures += [
        Figure(scorer, main, metric, value, nan, nan, users)
        for metric, values in catalogue.items()
        for scorer, value in values.items()
    ]
    return figures
