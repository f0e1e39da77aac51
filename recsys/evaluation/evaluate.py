"""Rank the same cases with several scorers and average per user."""

import logging
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.bootstrap import mean_intervals
from recsys.evaluation.cases import Cases
from recsys.evaluation.metrics import (
    are_sound,
    case_metrics,
    coverage_name,
    metric_names,
    ndcg_name,
    ranks,
    require_shape,
    user_means,
)
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation, Figure, SliceResult
from recsys.evaluation.scorer import Scorer
from recsys.model.ranking import NO_ITEM, mask_consumed, top_k
from recsys.settings import EvaluationSettings

__all__ = ["CANDIDATE", "CHAMPION", "Evaluation", "evaluate", "mean_ndcg"]

logger = logging.getLogger(__name__)

_BATCH_CASES = 512
_BATCH_SCORES = 1 << 23  # 32 MiB of scores at most, whatever the catalogue


def evaluate(
    scorers: Mapping[str, Scorer],
    cases: Cases,
    settings: EvaluationSettings,
    champion_version: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Rank the cases with every scorer.

    Parameters
    ----------
    scorers
        By name; the candidate is called `CANDIDATE`, the champion `CHAMPION`. Their scores follow the
        catalogue that the cases were made with.
    cases
        Identical for all scorers.
    champion_version
        Model version of the champion, kept with the result.
    progress
        Called with the number of cases done and in all.

    Returns
    -------
    Evaluation
        A scorer whose scores are NaN or infinite is in `failures`, with NaN metrics, so that the gate
        can reject it by name; the others are not affected.
    """
    rank, coverage, failures = _rank_all(scorers, cases, settings.k, progress)
    names = tuple(scorers)
    width = len(metric_names(settings.k))
    per_case = np.full((len(cases), len(names), width), np.nan)
    for number, name in enumerate(names):
        if name not in failures:
            per_case[:, number] = case_metrics(rank[name], settings.k)
    slices = {}
    for name, members in cases.slices.items():
        users, counts, means = user_means(
            per_case[members].reshape(-1, len(names) * width), cases.users[members]
        )
        keys = cases.sequences.user_keys[users]
        slices[name] = SliceResult(keys, counts, means.reshape(-1, len(names), width))
    return Evaluation(
        k=settings.k,
        scorers=names,
        slices=slices,
        coverage=coverage,
        failures=failures,
        champion_version=champion_version,
        figures=tuple(_figures(names, slices, coverage, settings)),
    )


def mean_ndcg(scorers: Mapping[str, Scorer], cases: Cases, k: int) -> dict[str, float]:
    """Return NDCG@k of each scorer, averaged per user; minus infinity for one that failed."""
    rank, _, failures = _rank_all(scorers, cases, k, None)
    column = metric_names(k).index(ndcg_name(k))
    return {
        name: float("-inf")
        if name in failures
        else float(user_means(case_metrics(rank[name], k)[:, [column]], cases.users)[2].mean())
        for name in scorers
    }


def _rank_all(
    scorers: Mapping[str, Scorer], cases: Cases, k: int, progress: Callable[[int, int], None] | None
) -> tuple[dict[str, NDArray[np.int64]], dict[str, float], dict[str, str]]:
    items = len(cases.available)
    rank = {name: np.zeros(len(cases), dtype=np.int64) for name in scorers}
    shown = {name: np.zeros(items, dtype=bool) for name in scorers}
    failures: dict[str, str] = {}
    latest = cases.latest_of_users()
    # Histories of like length together: a scorer that pads them wastes little.
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
            if not are_sound(given):
                failures[name] = "scores contain NaN or infinity"
                logger.warning("the scores of %s contain NaN or infinity: it is not evaluated", name)
                continue
            scores = mask_consumed(given.astype(np.float32, copy=True), histories)
            scores[:, ~cases.available] = -np.inf
            rank[name][chosen] = ranks(scores, cases.targets[chosen])
            if latest[chosen].any():
                index, _ = top_k(scores[latest[chosen]], k)
                shown[name][index[index != NO_ITEM]] = True
        if progress is not None:
            progress(min(start + batch, len(cases)), len(cases))
    recommendable = max(int(cases.available.sum()), 1)
    coverage = {
        name: float("nan") if name in failures else float(shown[name].sum() / recommendable)
        for name in scorers
    }
    return rank, coverage, failures


def _figures(
    names: tuple[str, ...],
    slices: Mapping[str, SliceResult],
    coverage: Mapping[str, float],
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
        Figure(scorer, main, coverage_name(settings.k), share, nan, nan, users)
        for scorer, share in coverage.items()
    ]
    return figures
