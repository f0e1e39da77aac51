"""Rank the targets of test cases by a model's scores, and summarise the ranks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import TargetCases
from benchmarks.fits import Judged
from benchmarks.peers import Precomputed
from benchmarks.rivals import RIVALS, Rival
from recsys.evaluation.ranking.cases import Cases
from recsys.evaluation.ranking.metrics import ranks, user_means
from recsys.evaluation.ranking.scorer import Scorer
from recsys.model.ranking import NO_ITEM, top_k

K = 10
METRICS = (f"ndcg_at_{K}", f"recall_at_{K}", "mrr")
_BATCH = 512
_TIMED = tuple(RIVALS.values())


def judge(
    model: Scorer | Rival | Precomputed, details: dict[str, Any], seconds: float, cases: TargetCases | Cases
) -> Judged:
    """Evaluate a model on test cases; see `METRICS`.

    Parameters
    ----------
    details, seconds
        Report and duration of the fit, which are passed on.
    """
    if isinstance(cases, Cases):
        cases = TargetCases.of(cases, 1 + int(cases.sequences.event_type.max(initial=0)))
    rank = np.zeros(len(cases.targets), dtype=np.int64)
    shown = np.zeros(len(cases.available), dtype=bool)
    latest = cases.latest_of_users()
    for start in range(0, len(cases), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(cases)))
        scores = _scores(model, cases, rows)
        places = np.arange(cases.offsets[rows[0]], cases.offsets[rows[-1] + 1])
        of_rows = cases.case_of_target[places] - rows[0]
        rank[places] = ranks_of(scores, of_rows, cases.targets[places])
        best, _ = top_k(scores[latest[rows]], K)
        shown[best[best != NO_ITEM]] = True
    metrics, _ = case_metrics(rank, cases.case_of_target, np.ones(len(rank), dtype=bool))
    return Judged(metrics, float(shown.sum() / max(cases.available.sum(), 1)), seconds, details, rank)


def _scores(model: Scorer | Rival | Precomputed, cases: TargetCases, rows: NDArray[np.int64]) -> Any:
    histories = cases.histories(rows)
    if isinstance(model, Precomputed):
        given = model.scores[rows]
    elif isinstance(model, _TIMED):
        given = model.score(histories, cases.at[rows])
    else:
        given = model.score(histories)
    scores = np.array(given, dtype=np.float32)
    cases.mask(scores, rows, histories)
    return scores


def validation_ndcg(model: Rival, cases: TargetCases) -> float:
    """Return the NDCG by which rivals are tuned, the mean over cases."""
    return float(judge(model, {}, 0.0, cases).metrics[:, 0].mean())


def ranks_of(
    scores: NDArray[np.float32], rows: NDArray[np.int64], targets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return `[targets]` the rank of each target in its row of scores; ties count against it."""
    result = np.empty(len(targets), dtype=np.int64)
    for start in range(0, len(targets), _BATCH):
        part = slice(start, start + _BATCH)
        result[part] = ranks(scores[rows[part]], targets[part].astype(np.int32))
    return result


def case_metrics(
    rank: NDArray[np.int64], case: NDArray[np.int64], members: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return `[cases, metrics]` of the cases with some of the targets as relevant items, and these cases.

    Parameters
    ----------
    rank, case
        `[targets]` rank of a target, and the case that wants it; cases are in increasing order.
    members
        `[targets]` whether the target counts. Cases without any are left out.
    """
    cases, place = np.unique(case[members], return_inverse=True)
    rank, count = rank[members], np.bincount(place, minlength=len(cases))
    found = rank <= K
    gain = np.where(found, 1 / np.log2(1.0 + rank), 0.0)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(2.0 + np.arange(K)))])
    best = np.full(len(cases), np.iinfo(np.int64).max)
    np.minimum.at(best, place, rank)
    metrics = [
        np.bincount(place, gain, len(cases)) / ideal[np.minimum(count, K)],
        np.bincount(place, found, len(cases)) / np.maximum(count, 1),
        1.0 / best,
    ]
    return np.stack(metrics, axis=1), cases


def part_metrics(
    judged: list[Judged], cases: TargetCases, members: NDArray[np.bool_]
) -> dict[str, float] | None:
    """Return the metrics of part of the targets, means over users of the mean over seeds; None: no target."""
    if not members.any():
        return None
    values = [case_metrics(one.ranks, cases.case_of_target, members) for one in judged]
    users, _, means = user_means(
        np.mean([metrics for metrics, _ in values], axis=0), cases.users[values[0][1]]
    )
    row = dict(zip(METRICS, means.mean(0).tolist(), strict=True))
    return row | {"users": len(users), "cases": len(values[0][1]), "targets": int(members.sum())}
