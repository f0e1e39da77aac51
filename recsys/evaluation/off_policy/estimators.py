"""Off-policy evaluation: what a policy would have earned, from slates that another policy showed.

The logging policy chose items with known probabilities, so its slates can be weighted as if the judged
policy had chosen them. All estimators here are a mean over slates of contributions, of which the
interval follows: contributions of one user depend on each other and are summed first (a cluster-robust
standard error with the t distribution).

Sources: Horvitz and Thompson (1952) for inverse propensities; Swaminathan and Joachims (2015) for
self-normalisation; Dudik, Langford and Li (2011) for the doubly robust estimator; Li et al. (2018) for
the item-position model of slates, McInerney et al. (2020) for the cascade.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from recsys.errors import OffPolicyError

Method = Literal["ips", "snips", "direct", "doubly_robust", "self_normalised_doubly_robust"]
SlateModel = Literal["item_position", "cascade", "slate"]
"""What the reward of a position depends on: its own item; the items up to it; the whole slate."""

_NEEDS_PREDICTIONS = ("direct", "doubly_robust", "self_normalised_doubly_robust")


@dataclass(frozen=True, eq=False)
class LoggedSlates:
    """Slates of a logging policy with what was earned, and how the judged policy sees them.

    Attributes
    ----------
    rewards
        [slates, positions]
    propensities
        [slates, positions] probability with which the logging policy showed the item at its position.
        For the models `cascade` and `slate` it is that given the items before.
    targets
        [slates, positions] the same probability of the judged policy.
    users
        [slates] whom the slate was shown to; slates of one user are not independent.
    shown
        [slates, positions] whether there was an item at all.
    predicted, predicted_target
        [slates, positions] reward that a model predicts for the item shown, and on average for what the
        judged policy shows there. They must come from other users' rewards. None: no such model.
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

    def _require(self, name: str, values: NDArray[np.float64], sound: NDArray[np.bool_]) -> None:
        wrong = np.argwhere(self.shown & ~sound)
        if len(wrong):
            slate, position = wrong[0]
            allowed = "above 0 and at most 1" if name == "propensities" else "a finite number"
            value = values[slate, position]
            raise OffPolicyError(
                f"{name}[{slate}, {position}] is {value} ({len(wrong)} such values); it must "
                f"be {allowed}: leave such slates out and count them, as off_policy_log does"
            )


@dataclass(frozen=True)
class Estimate:
    """An estimated value: mean reward of a slate under the judged policy, with its interval."""

    method: str
    value: float
    low: float
    high: float
    slates: int
    users: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {name: _json_number(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Diagnostics:
    """Whether an estimate can be trusted.

    Attributes
    ----------
    slates, users
        How many there are.
    effective_slates
        Kish's effective sample size (sum w)^2 / (sum w^2), the smallest of all positions.
    mean_weights, mean_weight_lows, mean_weight_highs
        [positions] mean importance weight with its interval. The judged policy's propensities sum to 1
        over what the logging policy can show when this is 1. Below 1 the judged policy shows items that
        were never shown; above 1 the propensities are wrong.
    support
        The smallest mean weight, at most 1: share of what the judged policy shows that the logging
        policy can show.
    deterministic_share
        Share of logged items with propensity 1: where nothing was explored.
    largest_weight, clipped_share
        Before clipping, and the share of weights that clipping changes.
    """

    slates: int
    users: int
    effective_slates: float
    mean_weights: tuple[float, ...]
    mean_weight_lows: tuple[float, ...]
    mean_weight_highs: tuple[float, ...]
    support: float
    deterministic_share: float
    largest_weight: float
    clipped_share: float

    def problem(self, min_effective_slates: float, min_support: float = 0.9) -> str | None:
        """Return why no conclusion may be drawn, as a sentence; None when one may."""
        if self.support < min_support and min(self.mean_weight_highs) < 1:
            explored = (
                " The logging policy is deterministic: it explores nothing."
                if self.deterministic_share > 0.99
                else ""
            )
            return (
                f"the log supports {self.support:.0%} of what the policy shows, {min_support:.0%} is "
                f"needed.{explored}"
            )
        if max(self.mean_weight_lows) > 1:
            return (
                f"the mean importance weight is {max(self.mean_weights):.2f} where it must be 1: the logged "
                "propensities are not those of the policy that chose the slates"
            )
        if self.effective_slates < min_effective_slates:
            return (
                f"{self.slates} slates are worth {self.effective_slates:.0f} after weighting, "
                f"{min_effective_slates:.0f} are needed"
            )
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            name: [_json_number(v) for v in value] if isinstance(value, tuple) else _json_number(value)
            for name, value in vars(self).items()
        }


def importance_weights(
    logged: LoggedSlates, model: SlateModel = "item_position", clip: float | None = None
) -> NDArray[np.float64]:
    """Return [slates, positions] how much more often the judged policy shows what was shown.

    Parameters
    ----------
    clip
        Weights above it are lowered to it: less variance, some bias.
    """
    if model not in get_args(SlateModel):
        raise OffPolicyError(f"there is no slate model {model!r}; choose from {get_args(SlateModel)}")
    if clip is not None and not clip > 0:
        raise OffPolicyError(f"weights are clipped to a value above 0, not {clip}")
    ratio = np.divide(
        logged.targets, logged.propensities, out=np.ones_like(logged.targets), where=logged.shown
    )
    if model == "cascade":
        ratio = np.cumprod(ratio, axis=1)
    elif model == "slate":
        ratio = np.repeat(np.prod(ratio, axis=1, keepdims=True), ratio.shape[1], axis=1)
    if clip is not None:
        ratio = np.minimum(ratio, clip)
    return np.where(logged.shown, ratio, 0.0)


def contributions(
    logged: LoggedSlates,
    method: Method = "snips",
    model: SlateModel = "item_position",
    clip: float | None = None,
) -> NDArray[np.float64]:
    """Return [slates] numbers whose mean is the estimate and whose spread is its uncertainty.

    For the self-normalised estimators they are the linearisation of the ratio around the estimate.
    """
    if method not in get_args(Method):
        raise OffPolicyError(f"there is no estimator {method!r}; choose from {', '.join(get_args(Method))}")
    weights = importance_weights(logged, model, clip)
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
    places = logged.shown.sum(axis=0)
    mean_weight = weights.sum(axis=0) / np.maximum(places, 1)
    usable = mean_weight > 0
    value = np.divide(
        (weights * rewards).sum(axis=0), weights.sum(axis=0), out=np.zeros(len(places)), where=usable
    )
    scaled = np.divide(weights, mean_weight, out=np.zeros_like(weights), where=usable)
    return np.asarray((base + logged.shown * value + scaled * (rewards - value)).sum(axis=1))


def estimate(
    logged: LoggedSlates,
    method: Method = "snips",
    model: SlateModel = "item_position",
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate the mean reward of a slate under the judged policy.

    Parameters
    ----------
    method
        `ips`: unbiased when the log supports the policy. `snips`: self-normalised, a little bias and much
        less variance. `direct`: what the reward model predicts. `doubly_robust` and its self-normalised
        form: the prediction, corrected by weighted errors.
    model
        What the reward of a position depends on.
    clip
        Largest importance weight.
    confidence
        Of the interval.
    """
    return _interval(contributions(logged, method, model, clip), logged.users, confidence, method)


def estimate_difference(
    logged: LoggedSlates,
    other: LoggedSlates,
    method: Method = "snips",
    model: SlateModel = "item_position",
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate by how much one policy earns more than another, paired on the same slates."""
    if len(logged) != len(other) or not np.array_equal(logged.users, other.users):
        raise OffPolicyError("two policies are compared on the same slates in the same order")
    difference = contributions(logged, method, model, clip) - contributions(other, method, model, clip)
    return _interval(difference, logged.users, confidence, method)


def diagnose(
    logged: LoggedSlates,
    model: SlateModel = "item_position",
    clip: float | None = None,
    confidence: float = 0.95,
) -> Diagnostics:
    """Say how far the log can answer for the judged policy."""
    weights = importance_weights(logged, model)
    sums = [
        _interval(weights[shown, position], logged.users[shown], confidence, "mean weight")
        for position, shown in enumerate(logged.shown.T)
        if shown.any()
    ]
    squares = (weights**2).sum(axis=0)
    effective = np.divide(weights.sum(axis=0) ** 2, squares, out=np.zeros(len(squares)), where=squares > 0)
    used = weights[logged.shown]
    return Diagnostics(
        slates=len(logged),
        users=len(np.unique(logged.users)),
        effective_slates=float(effective[logged.shown.any(axis=0)].min()) if sums else 0.0,
        mean_weights=tuple(each.value for each in sums),
        mean_weight_lows=tuple(each.low for each in sums),
        mean_weight_highs=tuple(each.high for each in sums),
        support=min(1.0, *(each.value for each in sums)) if sums else 0.0,
        deterministic_share=float((logged.propensities[logged.shown] >= 1).mean()) if len(used) else 0.0,
        largest_weight=float(used.max()) if len(used) else 0.0,
        clipped_share=float((used > clip).mean()) if clip is not None and len(used) else 0.0,
    )


def _interval(
    values: NDArray[np.float64], users: NDArray[np.int64], confidence: float, name: str
) -> Estimate:
    mean = float(values.mean())
    _, user = np.unique(users, return_inverse=True)
    sums = np.bincount(user, weights=values - mean)
    groups = len(sums)
    if groups < 2:
        return Estimate(name, mean, float("nan"), float("nan"), len(values), groups)
    error = np.sqrt((sums**2).sum() * groups / (groups - 1)) / len(values)
    half = float(stdtrit(groups - 1, (1 + confidence) / 2) * error)
    return Estimate(name, mean, mean - half, mean + half, len(values), groups)


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
