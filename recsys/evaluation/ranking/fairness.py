"""Fairness: the largest gap in a metric between slices of one family of users or items."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from recsys.evaluation.ranking.slices import MIN_SLICE_USERS, family
from recsys.evaluation.result import Evaluation
from recsys.settings import EvaluationSettings


@dataclass(frozen=True)
class Gap:
    """The gap between the best and the worst slice of a family.

    Attributes
    ----------
    difference, low, high
        Best - worst in the metric; the interval treats the two as independent. Best and worst are picked
        after looking, so the gap of many similar slices is overestimated.
    slices
        Number of slices with at least `MIN_SLICE_USERS` users.
    """

    family: str
    best: str
    worst: str
    difference: float
    low: float
    high: float
    slices: int


def largest_gaps(evaluation: Evaluation, scorer: str, metric: str, settings: EvaluationSettings) -> list[Gap]:
    """Return the largest gap of each family that has at least two slices of `MIN_SLICE_USERS` users."""
    members: dict[str, dict[str, tuple[float, float]]] = {}
    for name in evaluation.slices:
        group = family(name)
        values = evaluation.per_user(scorer, metric, name)
        if group is None or len(values) < MIN_SLICE_USERS or np.isnan(values).any():
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
