"""How far apart the slices of one family are: the largest gap between groups of users or items."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from recsys.evaluation.ranking.slices import family
from recsys.evaluation.result import Evaluation
from recsys.settings import EvaluationSettings


@dataclass(frozen=True)
class Gap:
    """The best and the worst served slice of a family.

    Attributes
    ----------
    difference, low, high
        Best - worst in the metric, with an interval that treats the two as independent. Best and worst
        were picked by looking, which makes the gap of many alike slices look larger than it is.
    slices
        How many slices were large enough to take part.
    """

    family: str
    best: str
    worst: str
    difference: float
    low: float
    high: float
    slices: int


def largest_gaps(evaluation: Evaluation, scorer: str, metric: str, settings: EvaluationSettings) -> list[Gap]:
    """Return the largest gap of each family of slices with at least two of enough users."""
    members: dict[str, dict[str, tuple[float, float]]] = {}
    for name in evaluation.slices:
        group = family(name)
        values = evaluation.per_user(scorer, metric, name)
        if group is None or len(values) < settings.min_slice_users or np.isnan(values).any():
            continue
        variance = float(values.var() / max(len(values) - 1, 1))
        members.setdefault(group, {})[name] = (float(values.mean()), variance)
    gaps = []
    for group, slices in members.items():
        if len(slices) < 2:
            continue
        best = max(slices, key=lambda name: slices[name][0])
        worst = min(slices, key=lambda name: slices[name][0])
        difference = slices[best][0] - slices[worst][0]
        half = float(ndtri((1 + settings.confidence) / 2)) * (slices[best][1] + slices[worst][1]) ** 0.5
        gaps.append(Gap(group, best, worst, difference, difference - half, difference + half, len(slices)))
    return sorted(gaps, key=lambda gap: -gap.difference)
