"""What users of two arms did: moments over users, and the difference of a metric with its standard error.

The user is the unit: whatever a user does is one observation, so what one person does repeatedly is not taken
for what many do. A share such as clicks of slates is linearised (Deng, Knoblich and Lu, "Applying the delta
method in metric analytics", KDD 2018). What users did before the experiment is subtracted as far as it
predicts what they did in it (CUPED; Deng, Xu, Kohavi and Walker, WSDM 2013).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

COUNTS = ("slates", "answered", "conversions", "dislikes")
"""What is counted of each user: slates shown, slates answered, shown items that led to an outcome, and shown
items disliked."""
VARIABLES = (*COUNTS, *(f"{name}_before" for name in COUNTS))
"""Columns of the moments: the counts in the experiment, then those in the time before it."""

_ROUNDING = 1e-15


@dataclass(frozen=True)
class Metric:
    """A figure of an arm.

    Attributes
    ----------
    numerator, denominator
        Names in `COUNTS`; without a denominator the figure is a mean over users.
    better
        1: more is better; -1: less is better.
    """

    name: str
    numerator: str
    denominator: str | None
    better: int
    meaning: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric("click_through", "answered", "slates", 1, "share of slates that users answered"),
        Metric("conversions", "conversions", None, 1, "shown items that led to an outcome, a user"),
        Metric("dislikes", "dislikes", "slates", -1, "shown items that were disliked, a slate"),
        Metric("slates", "slates", None, 1, "slates that were shown, a user"),
    )
}

PREFERENCE = Metric(
    "preference",
    "answered",
    None,
    1,
    "share of the answered items of an interleaved list that a version picked",
)
"""The metric of interleaved experiments; see `recsys.experiments.preference`."""


@dataclass
class Moments:
    """Sums over the users of an arm, which can be added to.

    Attributes
    ----------
    sums
        [variables]
    products
        [variables, variables]
    """

    users: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(VARIABLES)))
    products: NDArray[np.float64] = field(default_factory=lambda: np.zeros((len(VARIABLES),) * 2))

    def add(self, values: NDArray[np.float64]) -> None:
        """Add users, [users, variables]."""
        self.users += len(values)
        self.sums = self.sums + values.sum(axis=0)
        self.products = self.products + values.T @ values

    @property
    def means(self) -> NDArray[np.float64]:
        """Means over users, [variables]."""
        return self.sums / max(self.users, 1)

    @property
    def covariances(self) -> NDArray[np.float64]:
        """Covariances over users, [variables, variables]."""
        means = self.means
        return (self.products - self.users * np.outer(means, means)) / max(self.users - 1, 1)


@dataclass(frozen=True)
class Effect:
    """A metric in both arms.

    Attributes
    ----------
    control, challenger
        The metric's value in each arm, without adjustment.
    difference
        Challenger minus control, adjusted for what users did before.
    standard_error
        0 if all users of an arm are alike.
    information
        For `recsys.experiments.bounds`: slates of both arms. 0 if there is nothing to compare: no users in an
        arm, or nobody did what is counted.
    variance_ratio
        Variance with the adjustment, as a share of that without.
    """

    metric: Metric
    control: float
    challenger: float
    difference: float
    standard_error: float
    information: float
    variance_ratio: float

    @property
    def z(self) -> float:
        """Difference in standard errors; above 0 when the challenger is better."""
        return self.metric.better * self.difference / self.standard_error if self.standard_error > 0 else 0.0


def compare_arms(metric: Metric, control: Moments, challenger: Moments) -> Effect:
    """Return the difference of a metric between two arms."""
    arms = (control, challenger)
    control_value, challenger_value = (_value(metric, arm.users, arm.sums) for arm in arms)
    users = control.users + challenger.users
    if min(arm.users for arm in arms) < 2:
        return Effect(metric, control_value, challenger_value, 0.0, 0.0, 0.0, 1.0)
    pooled = (control.sums + challenger.sums) / users
    weights, level = _linear(metric, pooled, "")
    before, _ = _linear(metric, pooled, "_before")
    common = _value(metric, users, control.sums + challenger.sums)
    if level == 0 or common == 0:
        return Effect(metric, control_value, challenger_value, 0.0, 0.0, 0.0, 1.0)
    plain = [float(weights @ arm.covariances @ weights) for arm in arms]
    shared = [float(weights @ arm.covariances @ before) for arm in arms]
    earlier = [float(before @ arm.covariances @ before) for arm in arms]
    slope = sum(shared) / sum(earlier) if sum(earlier) > 0 else 0.0
    adjusted = weights - slope * before
    variances = [
        max(own - 2 * slope * both + slope**2 * old, 0.0)
        for own, both, old in zip(plain, shared, earlier, strict=True)
    ]
    difference = float(adjusted @ (challenger.means - control.means)) / level
    variance = sum(v / arm.users for v, arm in zip(variances, arms, strict=True))
    if variance < _ROUNDING * (common * level) ** 2:
        variance = 0.0
    unadjusted = sum(v / arm.users for v, arm in zip(plain, arms, strict=True))
    return Effect(
        metric,
        control_value,
        challenger_value,
        difference=difference,
        standard_error=float(np.sqrt(variance)) / level,
        information=users * float(pooled[VARIABLES.index("slates")]),
        variance_ratio=variance / unadjusted if unadjusted > 0 else 1.0,
    )


def _value(metric: Metric, users: int, sums: NDArray[np.float64]) -> float:
    total = float(sums[VARIABLES.index(metric.numerator)])
    over = float(users if metric.denominator is None else sums[VARIABLES.index(metric.denominator)])
    return total / over if over > 0 else 0.0


def _linear(metric: Metric, pooled: NDArray[np.float64], suffix: str) -> tuple[NDArray[np.float64], float]:
    """Return the weights [variables] of a user's counts, and by what to divide the result.

    It is the metric's linear part at the value of both arms together; `pooled` are their means.
    """
    weights = np.zeros(len(VARIABLES))
    numerator = VARIABLES.index(f"{metric.numerator}{suffix}")
    if metric.denominator is None:
        weights[numerator] = 1.0
        return weights, 1.0
    denominator = VARIABLES.index(f"{metric.denominator}{suffix}")
    if pooled[denominator] <= 0:
        return weights, 0.0
    weights[numerator] = 1.0
    weights[denominator] = -pooled[numerator] / pooled[denominator]
    return weights, float(pooled[denominator])
