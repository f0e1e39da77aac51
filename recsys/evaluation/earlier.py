"""Earlier champions beside the champion of today, on the newest feedback.

Each promotion may lose a little within its margin, and many such losses add up. So a night also ranks its
held-out events with the champions of a week and of a month ago.
"""

from dataclasses import dataclass

from recsys.evaluation.ranking.metrics import ndcg_name
from recsys.evaluation.result import CHAMPION, Evaluation
from recsys.settings import EvaluationSettings

_PREFIX = "champion_days_ago:"


def earlier_name(days: int) -> str:
    """Return the scorer's name of the champion of so many days ago."""
    return f"{_PREFIX}{days}"


@dataclass(frozen=True)
class Decline:
    """The champion against the champion of some days ago, on the same users and events.

    Attributes
    ----------
    ndcg, earlier_ndcg
        Mean NDCG@k of both.
    difference, low, high
        Champion - earlier champion with its interval.
    """

    days: int
    ndcg: float
    earlier_ndcg: float
    difference: float
    low: float
    high: float
    users: int


def declines(evaluation: Evaluation, settings: EvaluationSettings) -> list[Decline]:
    """Compare the champion with each earlier one that was ranked; none without a champion."""
    if CHAMPION not in evaluation.scorers or CHAMPION in evaluation.failures or not evaluation.users:
        return []
    metric, found = ndcg_name(evaluation.k), []
    for name in evaluation.scorers:
        if not name.startswith(_PREFIX) or name in evaluation.failures:
            continue
        interval = evaluation.compare(CHAMPION, name, metric, settings)
        found.append(
            Decline(
                int(name.removeprefix(_PREFIX)),
                evaluation.mean(CHAMPION, metric),
                evaluation.mean(name, metric),
                interval.value,
                interval.low,
                interval.high,
                evaluation.users,
            )
        )
    return found
