"""Off-policy estimators: what a policy would have earned on slates that another policy showed.

The logging policy chose items with known probabilities, so its slates can be reweighted as if the target
policy had chosen them. The reward of a position is taken to depend on its own item only (the item-position
model of Li et al., 2018): the probabilities that this needs are those that table `impressions` holds.

Every estimate is a mean of one contribution per slate. Contributions of one user depend on each other, so
they are summed by user before the interval is computed (cluster-robust standard error, t distribution).

Sources: Horvitz and Thompson (1952) for inverse propensities; Swaminathan and Joachims (2015) for
self-normalisation; Dudik, Langford and Li (2011) for the doubly robust estimator.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from recsys.errors import OffPolicyError
from recsys.evaluation.json_files import Number

Method = Literal["ips", "snips", "direct", "doubly_robust", "self_normalised_doubly_robust"]

_NEEDS_PREDICTIONS = ("direct", "doubly_robust", "self_normalised_doubly_robust")


@dataclass(frozen=True, eq=False)
class LoggedSlates:
    """Slates of a logging policy with their rewards, and their probabilities under the target policy.

    Attributes
    ----------
    rewards
        [slates, positions]
    propensities
        [slates, positions] probability that the logging policy shows the item at its position.
    targets
        [slates, positions] probability that the target policy shows the item at its position.
    users
        [slates] user who saw the slate; slates of one user are not independent.
    shown
        [slates, positions] whether the position had an item.
    predicted, predicted_target
        [slates, positions] predicted reward of the item shown, and mean predicted reward of the items that
        the target policy shows there. Both must be learned from other users' rewards. None without a
        reward model.

    Raises
    ------
    OffPolicyError
        Shapes differ, there are no slates, or a value is out of range; the message gives the first one.
    """

    rewards: NDArray[np.float64]
    propensities: NDArray[np.float64]
    targets: NDArray[np.float64]
    users: NDArray[np.int64]
    shown: NDArray[np.bool_]
    predicted: NDArray[np.float64] | None = None
    predicted_target: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        shape = self.rewards.shape
        if len(shape) != 2 or shape[0] == 0:
            raise OffPolicyError(f"rewards must be [slates, positions] with at least one slate, not {shape}")
        for name in ("propensities", "targets", "shown", "predicted", "predicted_target"):
            part = getattr(self, name)
            if part is not None and part.shape != shape:
                raise OffPolicyError(f"{name} are {list(part.shape)}, the rewards {list(shape)}")
        if self.users.shape != shape[:1]:
            raise OffPolicyError(f"users are {list(self.users.shape)}, the slates {shape[0]}")
        self._require("propensities", self.propensities, (self.propensities > 0) & (self.propensities <= 1))
        self._require("targets", self.targets, (self.targets >= 0) & (self.targets <= 1 + 1e-9))
        for name in ("rewards", "predicted", "predicted_target"):
            part = getattr(self, name)
            if part is not None:
                self._require(name, part, np.isfinite(part))

    def __len__(self) -> int:
        return len(self.rewards)

    def _require(self, name: str, values: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
        wrong = np.argwhere(self.shown & ~valid)
        if len(wrong):
            slate, position = wrong[0]
            allowed = "above 0 and at most 1" if name == "propensities" else "a finite number"
            value = values[slate, position]
            raise OffPolicyError(
                f"{name}[{slate}, {position}] is {value} ({len(wrong)} such values); it must be {allowed}: "
                "leave such slates out and count them, as recsys.evaluation.off_policy.log does"
            )


@dataclass(frozen=True)
class Estimate:
    """Mean reward of a slate under the target policy, with its confidence interval."""

    method: str
    value: float
    low: Number
    high: Number
    slates: int
    users: int


def importance_weights(logged: LoggedSlates, clip: float | None = None) -> NDArray[np.float64]:
    """Return [slates, positions] target probability over propensity; 0 where no item was shown.

    Parameters
    ----------
    clip
        Larger weights are lowered to it: less variance, some bias.
    """
    if clip is not None and not clip > 0:
        raise OffPolicyError(f"weights are clipped to a value above 0, not {clip}")
    ratio = np.divide(
        logged.targets, logged.propensities, out=np.ones_like(logged.targets), where=logged.shown
    )
    if clip is not None:
        ratio = np.minimum(ratio, clip)
    return np.where(logged.shown, ratio, 0.0)


def contributions(
    logged: LoggedSlates, method: Method = "snips", clip: float | None = None
) -> NDArray[np.float64]:
    """Return [slates] numbers whose mean is the estimate and whose spread is its uncertainty.

    For the self-normalised estimators they are the linearisation of the ratio around the estimate.
    """
    if method not in get_args(Method):
        raise OffPolicyError(f"there is no estimator {method!r}; choose from {', '.join(get_args(Method))}")
    weights = importance_weights(logged, clip)
    rewards = np.where(logged.shown, logged.rewards, 0.0)
    base = np.zeros_like(rewards)
    if method in _NEEDS_PREDICTIONS:
        if logged.predicted is None or logged.predicted_target is None:
            raise OffPolicyError(
                f"the estimator {method!r} needs predicted rewards; give `predicted` and `predicted_target`"
            )
        base = np.where(logged.shown, logged.predicted_target, 0.0)
        if method == "direct":
            return np.asarray(base.sum(axis=1))
        rewards = rewards - np.where(logged.shown, logged.predicted, 0.0)
    if method in ("ips", "doubly_robust"):
        return np.asarray((base + weights * rewards).sum(axis=1))
    counts = logged.shown.sum(axis=0)
    mean_weight = weights.sum(axis=0) / np.maximum(counts, 1)
    usable = mean_weight > 0
    value = np.divide(
        (weights * rewards).sum(axis=0), weights.sum(axis=0), out=np.zeros(len(counts)), where=usable
    )
    scaled = np.divide(weights, mean_weight, out=np.zeros_like(weights), where=usable)
    return np.asarray((base + logged.shown * value + scaled * (rewards - value)).sum(axis=1))


def estimate(
    logged: LoggedSlates, method: Method = "snips", clip: float | None = None, confidence: float = 0.95
) -> Estimate:
    """Estimate the mean reward of a slate under the target policy.

    Parameters
    ----------
    method
        `ips`: unbiased when the log supports the policy. `snips`: self-normalised, a little bias and much
        less variance. `direct`: the reward model alone. `doubly_robust` and its self-normalised form: the
        reward model, corrected by its weighted errors.
    clip
        Largest importance weight.
    confidence
        Coverage of the interval.
    """
    return clustered_mean(contributions(logged, method, clip), logged.users, confidence, method)


def clustered_mean(
    values: NDArray[np.float64], users: NDArray[np.int64], confidence: float, name: str
) -> Estimate:
    """Return the mean of values [slates] with an interval that is robust to slates of the same user.

    One user gives a value without an interval.
    """
    mean = float(values.mean())
    _, user = np.unique(users, return_inverse=True)
    sums = np.bincount(user, weights=values - mean)
    groups = len(sums)
    if groups < 2:
        return Estimate(name, mean, float("nan"), float("nan"), len(values), groups)
    error = np.sqrt((sums**2).sum() * groups / (groups - 1)) / len(values)
    half = float(stdtrit(groups - 1, (1 + confidence) / 2) * error)
    return Estimate(name, mean, mean - half, mean + half, len(values), groups)
