"""Diagnostics of an off-policy estimate: can the log answer for the target policy at all?"""

from dataclasses import dataclass

import numpy as np

from recsys.evaluation.json_files import Number
from recsys.evaluation.off_policy.estimators import LoggedSlates, clustered_mean, importance_weights

_MIN_SUPPORT = 0.9
"""Below this share of the target policy's items, the estimate is mostly about other items."""


@dataclass(frozen=True)
class Diagnostics:
    """Whether an estimate can be trusted.

    Attributes
    ----------
    slates, users
        Sample sizes.
    effective_slates
        Kish's effective sample size (sum w)^2 / (sum w^2), the smallest of all positions.
    mean_weights, mean_weight_lows, mean_weight_highs
        [positions] mean importance weight with its interval. It is 1 when the propensities are right and
        the logging policy can show everything that the target policy shows. Below 1 the target policy
        shows items that were never shown; above 1 the propensities are wrong.
    support
        The smallest mean weight, at most 1: share of the target policy's items that the logging policy
        can show.
    deterministic_share
        Share of logged items with propensity 1, where nothing was explored.
    largest_weight
        Before clipping.
    clipped_share
        Share of weights that clipping changes.
    """

    slates: int
    users: int
    effective_slates: float
    mean_weights: tuple[float, ...]
    mean_weight_lows: tuple[Number, ...]
    mean_weight_highs: tuple[Number, ...]
    support: float
    deterministic_share: float
    largest_weight: float
    clipped_share: float

    def problem(self, min_effective_slates: float) -> str | None:
        """Return why the estimate allows no conclusion; None when it allows one."""
        if self.support < _MIN_SUPPORT and min(self.mean_weight_highs) < 1:
            explored = (
                "; the logging policy is deterministic and explores nothing"
                if self.deterministic_share > 0.99
                else ""
            )
            return (
                f"the log supports {self.support:.0%} of what the policy shows, {_MIN_SUPPORT:.0%} is "
                f"needed{explored}"
            )
        if max(self.mean_weight_lows) > 1:
            return (
                f"the mean importance weight is {max(self.mean_weights):.2f} but must be 1: the logged "
                "propensities are not those of the policy that chose the slates"
            )
        if self.effective_slates < min_effective_slates:
            return (
                f"the {self.slates} slates have an effective sample size of {self.effective_slates:.0f}, "
                f"{min_effective_slates:.0f} is needed"
            )
        return None


def diagnose(logged: LoggedSlates, clip: float | None = None, confidence: float = 0.95) -> Diagnostics:
    """Measure how well the log supports the target policy."""
    weights = importance_weights(logged)
    means = [
        clustered_mean(weights[shown, position], logged.users[shown], confidence, "mean weight")
        for position, shown in enumerate(logged.shown.T)
        if shown.any()
    ]
    squares = (weights**2).sum(axis=0)
    effective = np.divide(weights.sum(axis=0) ** 2, squares, out=np.zeros(len(squares)), where=squares > 0)
    used = weights[logged.shown]
    return Diagnostics(
        slates=len(logged),
        users=len(np.unique(logged.users)),
        effective_slates=float(effective[logged.shown.any(axis=0)].min()) if means else 0.0,
        mean_weights=tuple(each.value for each in means),
        mean_weight_lows=tuple(each.low for each in means),
        mean_weight_highs=tuple(each.high for each in means),
        support=min(1.0, *(each.value for each in means)) if means else 0.0,
        deterministic_share=float((logged.propensities[logged.shown] >= 1).mean()) if len(used) else 0.0,
        largest_weight=float(used.max()) if len(used) else 0.0,
        clipped_share=float((used > clip).mean()) if clip is not None and len(used) else 0.0,
    )
