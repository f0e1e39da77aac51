"""The difference of two policies, estimated from one log.

Where two policies would show the same item at the same position, the log says nothing about their difference
and adds no noise to it. So the difference is estimated from the difference of their weights, not from two
estimates (Jeunen and Ustimenko, "Delta-OPE: Off-Policy Estimation with Pairs of Policies", 2024, arXiv
2405.10024).

The mean difference of the weights at a position is known: it is 0 if the log supports both policies. So any
multiple of it may be subtracted from the weighted rewards. The multiples that leave the least variance are a
least-squares fit. The paper has one multiple and independent slates; here there is one for each position, and
slates of one user are summed first, because they depend on each other. With one position and one slate per
user it is the paper's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from recsys.errors import OffPolicyError
from recsys.evaluation.json_files import Number
from recsys.evaluation.off_policy.estimators import LoggedSlates, clustered_mean, importance_weights


@dataclass(frozen=True)
class Difference:
    """How much more one policy earns per slate than another, and whether the log allows a conclusion.

    Attributes
    ----------
    value, low, high
        Mean difference of the reward of a slate with its interval; NaN limits with too few users.
    slates, users
        Sample sizes.
    changed
        Mean number of positions per slate at which the policies differ (total variation distance).
    overlap
        Share of what either policy shows and the other does not that the log can show; 1 when they do not
        differ.
    overlap_low
        Lower limit of the same: significantly above 1, the propensities are too small.
    effective_slates
        Kish's effective sample size of the slates by the difference of their weights: slates on which the
        policies agree do not count.
    effective_users
        Number of equally influential users that would give the same evidence. It is 1 when one user decides.
    rewarded_users
        Users with a reward where the policies differ.
    baselines
        [positions] the multiples of the weights that were subtracted: about the mean reward where the
        policies differ.
    """

    value: float
    low: Number
    high: Number
    slates: int
    users: int
    changed: float
    overlap: float
    overlap_low: float
    effective_slates: float
    effective_users: float
    rewarded_users: int
    baselines: tuple[float, ...]

    def problem(self, min_effective_slates: float, min_overlap: float) -> str | None:
        """Return why the estimate allows no conclusion; None when it allows one."""
        if self.changed == 0:
            return None
        if self.overlap < min_overlap:
            return (
                f"the log can show {self.overlap:.0%} of what the policies show differently, "
                f"{min_overlap:.0%} is needed; publish lists that explore (docs/evaluation.md)"
            )
        if self.overlap_low > 1:
            return (
                "the log shows what differs more often than its propensities say: they are not those of the "
                "policy that chose the slates"
            )
        if self.effective_slates < min_effective_slates:
            return (
                f"the {self.slates} slates have an effective sample size of {self.effective_slates:.0f} "
                f"where the policies differ, {min_effective_slates:.0f} is needed"
            )
        if self.rewarded_users == 0:
            return "there is no reward where the policies differ"
        if not np.isfinite(self.low):
            return f"{self.users} users are too few for an interval"
        return None


def estimate_difference(
    logged: LoggedSlates,
    other: LoggedSlates,
    gained: NDArray[np.float64],
    lost: NDArray[np.float64],
    clip: float | None = None,
    confidence: float = 0.95,
) -> Difference:
    """Estimate how much more the first policy earns than the other on the same slates.

    Parameters
    ----------
    logged, other
        The same slates with the targets of the first and the other policy.
    gained, lost
        [slates, positions] by how much the first policy shows items more often than the other, and less
        often, from `SlateDistribution.excess_over`.
    clip
        Largest importance weight of either policy.
    confidence
        Coverage of the interval.

    Raises
    ------
    OffPolicyError
        The two are not the same slates.
    """
    if logged.rewards.shape != other.rewards.shape or not np.array_equal(logged.users, other.users):
        raise OffPolicyError("two policies are compared on the same slates in the same order")
    weights = importance_weights(logged, clip) - importance_weights(other, clip)
    rewards = np.where(logged.shown, logged.rewards, 0.0)
    _, user = np.unique(logged.users, return_inverse=True)
    users, slates = int(user.max()) + 1, len(logged)
    baselines, rank = _least_variance(
        _by_user(weights, user), _by_user((weights * rewards).sum(axis=1), user)
    )
    earned = (weights * rewards).sum(axis=1) - weights @ baselines
    value = float(earned.mean())
    sums = _by_user(earned - value, user)
    squares = float((sums**2).sum())
    effective_users = squares**2 / float((sums**4).sum()) if squares > 0 else float(users)
    freedom = users - 1 - rank
    half = float("nan")
    if freedom >= 1:
        error = np.sqrt(squares * users / freedom) / slates
        # Few influential users make the standard error itself uncertain.
        half = float(stdtrit(max(1.0, min(freedom, effective_users)), (1 + confidence) / 2) * error)
    changes = [float(np.where(logged.shown, part, 0.0).sum(axis=1).mean()) for part in (gained, lost)]
    overlap, overlap_low = _overlap(logged, other, changes, confidence)
    amounts = np.abs(weights).sum(axis=1)
    amount = float((amounts**2).sum())
    return Difference(
        value, value - half, value + half, slates, users, max(changes), overlap, overlap_low,
        float(amounts.sum() ** 2 / amount) if amount > 0 else 0.0,
        effective_users,
        int((_by_user((np.abs(weights) * np.abs(rewards)).sum(axis=1), user) > 0).sum()),
        tuple(float(each) for each in baselines),
    )  # fmt: skip


def _least_variance(
    weights: NDArray[np.float64], earned: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    """Return [positions] the multiples of the weights' sums [users, positions], and the sums' rank."""
    baselines, _, rank, _ = np.linalg.lstsq(weights, earned, rcond=None)
    return np.asarray(baselines, dtype=np.float64), int(rank)


def _overlap(
    logged: LoggedSlates, other: LoggedSlates, changes: list[float], confidence: float
) -> tuple[float, float]:
    """Return the smallest share of what differs that the log shows, and the largest lower limit."""
    weights = importance_weights(logged) - importance_weights(other)
    shares, lows = [1.0], [0.0]
    for sign, change in zip((1, -1), changes, strict=True):
        if change > 0:
            more = np.maximum(sign * weights, 0.0).sum(axis=1)
            found = clustered_mean(more, logged.users, confidence, "overlap")
            shares.append(found.value / change)
            lows.append(found.low / change)
    return min(shares), float(np.nanmax(lows))


def _by_user(values: NDArray[np.float64], user: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return [users, ...] sums of values [slates, ...]."""
    sums = np.zeros((int(user.max()) + 1, *values.shape[1:]))
    np.add.at(sums, user, values)
    return sums
