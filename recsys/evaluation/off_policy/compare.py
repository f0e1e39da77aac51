"""Candidate and champion on the slates that were really shown, weighted by logged propensities."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EvaluationError
from recsys.evaluation.off_policy.estimators import (
    Diagnostics,
    Estimate,
    LoggedSlates,
    Method,
    diagnose,
    estimate,
    estimate_difference,
)
from recsys.evaluation.off_policy.log import SlateRecords
from recsys.evaluation.off_policy.rewards import predict_rewards
from recsys.evaluation.off_policy.slates import Greedy, SlateDistribution, SlatePolicy
from recsys.evaluation.ranking.metrics import are_sound, require_shape
from recsys.evaluation.ranking.scorer import Scorer
from recsys.model.ranking import mask_consumed
from recsys.settings import EvaluationSettings
from recsys.snapshot.sequences import Sequences

METHODS: tuple[Method, ...] = ("ips", "snips", "doubly_robust")
FILE = "off_policy.json"
_BATCH = 512


@dataclass(frozen=True)
class PolicyValue:
    """What one policy is estimated to earn for each slate, by method, and how far that can be trusted."""

    estimates: tuple[Estimate, ...]
    diagnostics: Diagnostics
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "estimates": [each.to_dict() for each in self.estimates],
            "diagnostics": self.diagnostics.to_dict(),
            "problem": self.problem,
        }


@dataclass(frozen=True)
class OffPolicyComparison:
    """Estimated values of policies on the same logged slates.

    Attributes
    ----------
    reward
        What a slate earns, in words.
    slates, left_out
        Slates used, and those left out by reason.
    observed
        Mean reward of a slate as it was shown.
    values
        By scorer.
    differences
        Candidate - champion by method; empty without both.
    """

    reward: str
    slates: int
    left_out: dict[str, int]
    observed: float | None = None
    values: dict[str, PolicyValue] = field(default_factory=dict)
    differences: tuple[Estimate, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "reward": self.reward,
            "slates": self.slates,
            "left_out": self.left_out,
            "observed": self.observed,
            "values": {name: value.to_dict() for name, value in self.values.items()},
            "differences": [each.to_dict() for each in self.differences],
        }

    def save(self, folder: Path) -> None:
        """Write `off_policy.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "OffPolicyComparison | None":
        """Read what `save` wrote; None when nothing was written."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text())
            return cls(
                **{
                    **values,
                    "values": {name: _policy_value(value) for name, value in values["values"].items()},
                    "differences": tuple(_estimate(each) for each in values["differences"]),
                }
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EvaluationError(f"{path} cannot be read ({error}); evaluate again") from error


def compare_policies(
    records: SlateRecords,
    scorers: Mapping[str, Scorer],
    sequences: Sequences,
    available: NDArray[np.bool_],
    settings: EvaluationSettings,
    candidate: str,
    champion: str,
    policy: SlatePolicy | None = None,
) -> OffPolicyComparison:
    """Estimate what each scorer's slates would have earned where the logged slates were shown.

    Each scorer ranks for the user's history as it was when the slate was shown. Estimates hold for
    users and moments of the log.

    Parameters
    ----------
    records
        From `recsys.evaluation.off_policy.log`; `slates` refers to the scorers' catalogue.
    scorers
        By name; one that gives NaN is left out, its failure is the main evaluation's business.
    sequences
        The users' events; a user who is not there has no history.
    available
        [items]: may be shown.
    policy
        How slates are made from scores; default: the best items in order, as published.
    """
    reward = f"{' or '.join(settings.off_policy_event_types)} for each slate"
    if len(records) == 0:
        return OffPolicyComparison(reward, 0, records.left_out)
    policy = policy or Greedy()
    users = np.unique(records.user_keys.astype(str), return_inverse=True)[1]
    logged: dict[str, LoggedSlates] = {}
    for name, scorer in scorers.items():
        distribution = _distribution(scorer, records, sequences, available, policy)
        if distribution is None:
            continue
        predicted, target = predict_rewards(
            records.slates, records.rewards, users, distribution, len(available)
        )
        logged[name] = LoggedSlates(
            records.rewards, records.propensities, distribution.of(records.slates), users, records.shown,
            predicted, target,
        )  # fmt: skip
    clip, confidence = settings.off_policy_clip, settings.confidence
    values = {}
    for name, each in logged.items():
        diagnostics = diagnose(each, clip=clip, confidence=confidence)
        values[name] = PolicyValue(
            tuple(estimate(each, method, clip=clip, confidence=confidence) for method in METHODS),
            diagnostics,
            diagnostics.problem(settings.off_policy_min_slates),
        )
    differences: tuple[Estimate, ...] = ()
    if candidate in logged and champion in logged:
        pair = logged[candidate], logged[champion]
        differences = tuple(
            estimate_difference(*pair, method, clip=clip, confidence=confidence) for method in METHODS
        )
    observed = float(np.where(records.shown, records.rewards, 0.0).sum(axis=1).mean())
    return OffPolicyComparison(reward, len(records), records.left_out, observed, values, differences)


def _distribution(
    scorer: Scorer,
    records: SlateRecords,
    sequences: Sequences,
    available: NDArray[np.bool_],
    policy: SlatePolicy,
) -> SlateDistribution | None:
    place = {key: number for number, key in enumerate(sequences.user_keys.tolist())}
    everybody = Sequences.concat([sequences, Sequences.empty(["nobody"])])
    owners = np.array([place.get(key, sequences.users) for key in records.user_keys], dtype=np.int64)
    parts = []
    for start in range(0, len(records), _BATCH):
        batch = slice(start, start + _BATCH)
        histories = everybody.take_users(owners[batch])
        histories = histories.where(
            histories.occurred_at < np.repeat(records.shown_at[batch], histories.lengths)
        )
        scores = np.asarray(scorer.score(histories))
        require_shape(scores, histories.users, len(available))
        if not are_sound(scores):
            return None
        scores = mask_consumed(scores.astype(np.float32, copy=True), histories)
        scores[:, ~available] = -np.inf
        parts.append(policy.distribution(scores, records.slates.shape[1]))
    return SlateDistribution(
        np.concatenate([part.items for part in parts]), np.concatenate([part.probabilities for part in parts])
    )


def _policy_value(values: dict[str, Any]) -> PolicyValue:
    diagnostics: dict[str, Any] = {
        name: tuple(_number(each) for each in value) if isinstance(value, list) else _number(value)
        for name, value in values["diagnostics"].items()
    }
    estimates = tuple(_estimate(each) for each in values["estimates"])
    return PolicyValue(estimates, Diagnostics(**diagnostics), values["problem"])


def _estimate(values: dict[str, Any]) -> Estimate:
    return Estimate(**{name: _number(value) for name, value in values.items()})


def _number(value: Any) -> Any:
    return float("nan") if value is None else value
