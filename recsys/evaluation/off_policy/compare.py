"""Off-policy comparison of candidate and champion on slates that users saw, by logged propensities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from recsys.evaluation.json_files import read_json, write_json
from recsys.evaluation.off_policy.diagnostics import Diagnostics, diagnose
from recsys.evaluation.off_policy.difference import Difference, estimate_difference
from recsys.evaluation.off_policy.estimators import Estimate, LoggedSlates, Method, estimate
from recsys.evaluation.off_policy.log import SlateRecords
from recsys.evaluation.off_policy.rewards import predict_rewards
from recsys.evaluation.off_policy.slates import Greedy, SlateDistribution, SlatePolicy
from recsys.evaluation.ranking.metrics import are_valid, require_shape
from recsys.evaluation.ranking.scorer import Scorer
from recsys.model.ranking import mask_hidden, mask_unavailable, mask_variants
from recsys.settings import EvaluationSettings
from recsys.snapshot.parts import sortable, take_keys
from recsys.snapshot.sequences import Catalogue, Sequences, parts_of

_METHODS: tuple[Method, ...] = ("ips", "snips", "doubly_robust")
_MAX_WEIGHT = 50.0
"""Clips importance weights: a slate that counts for more than 50 says more about luck than about a policy."""
_FILE = "off_policy.json"
_BATCH = 512


@dataclass(frozen=True)
class PolicyValue:
    """Estimated reward of a slate under one policy, by method, and whether it allows a conclusion."""

    estimates: tuple[Estimate, ...]
    diagnostics: Diagnostics
    problem: str | None


@dataclass(frozen=True)
class OffPolicyComparison:
    """Estimated values of policies on the same logged slates.

    Attributes
    ----------
    reward
        What a slate earns, in words.
    slates
        Number of slates used.
    left_out
        Number of slates left out, by reason.
    observed
        Mean reward of a slate as it was shown; None without slates.
    values
        By scorer.
    difference
        Candidate - champion; None without both.
    problem
        Why the difference allows no conclusion; None when it allows one.
    """

    reward: str
    slates: int
    left_out: dict[str, int]
    observed: float | None = None
    values: dict[str, PolicyValue] = field(default_factory=dict)
    difference: Difference | None = None
    problem: str | None = None

    def save(self, folder: Path) -> None:
        """Write `off_policy.json`."""
        write_json(folder / _FILE, _ADAPTER, self)

    @classmethod
    def load(cls, folder: Path) -> "OffPolicyComparison | None":
        """Read what `save` wrote; None when there is no file."""
        path = folder / _FILE
        return read_json(path, _ADAPTER) if path.is_file() else None


_ADAPTER = TypeAdapter(OffPolicyComparison)


def compare_policies(
    records: SlateRecords,
    scorers: Mapping[str, Scorer],
    sequences: Sequences | Sequence[Sequences],
    catalogue: Catalogue,
    settings: EvaluationSettings,
    candidate: str,
    champion: str,
    policy: SlatePolicy | None = None,
) -> OffPolicyComparison:
    """Estimate what each scorer's slates would have earned in place of the logged slates.

    Each scorer ranks for the user's history as it was when the slate was shown. The estimates hold for the
    users and times of the log.

    Parameters
    ----------
    records
        From `recsys.evaluation.off_policy.log`; `slates` refers to the scorers' catalogue.
    scorers
        By name. A scorer that returns NaN is left out; the evaluation on held-out feedback reports it.
    sequences
        The users' events, or parts with some of the users; a user without a sequence has no history. Only
        users of the log are held in memory.
    catalogue
        What may be shown, and when.
    policy
        How slates are made from scores; default: the best items in order, as they are published.
    """
    reward = f"{' or '.join(settings.off_policy_event_types)} per slate"
    if len(records) == 0:
        return OffPolicyComparison(reward, 0, records.left_out)
    policy = policy or Greedy()
    keys, users = np.unique(sortable(records.user_keys), return_inverse=True)
    histories = take_keys(parts_of(sequences), keys)
    logged: dict[str, LoggedSlates] = {}
    distributions: dict[str, SlateDistribution] = {}
    for name, scorer in scorers.items():
        distribution = _distribution(scorer, records, histories, catalogue, policy)
        if distribution is None:
            continue
        predicted, target = predict_rewards(
            records.slates, records.rewards, users, distribution, len(catalogue)
        )
        distributions[name] = distribution
        logged[name] = LoggedSlates(
            records.rewards, records.propensities, distribution.of(records.slates), users, records.shown,
            predicted, target,
        )  # fmt: skip
    clip, confidence = _MAX_WEIGHT, settings.confidence
    values = {}
    for name, each in logged.items():
        diagnostics = diagnose(each, clip=clip, confidence=confidence)
        values[name] = PolicyValue(
            tuple(estimate(each, method, clip=clip, confidence=confidence) for method in _METHODS),
            diagnostics,
            diagnostics.problem(settings.off_policy_min_slates),
        )
    difference, problem = None, None
    if candidate in logged and champion in logged:
        new, old = distributions[candidate], distributions[champion]
        difference = estimate_difference(
            logged[candidate],
            logged[champion],
            new.excess_over(old),
            old.excess_over(new),
            clip=clip,
            confidence=confidence,
        )
        problem = difference.problem(settings.off_policy_min_slates, settings.off_policy_min_overlap)
    observed = float(np.where(records.shown, records.rewards, 0.0).sum(axis=1).mean())
    return OffPolicyComparison(reward, len(records), records.left_out, observed, values, difference, problem)


def _distribution(
    scorer: Scorer,
    records: SlateRecords,
    sequences: Sequences,
    catalogue: Catalogue,
    policy: SlatePolicy,
) -> SlateDistribution | None:
    rows = {key: number for number, key in enumerate(sequences.user_keys.tolist())}
    with_unknown = Sequences.concat([sequences, Sequences.empty(["unknown user"])])
    owners = np.array([rows.get(key, sequences.users) for key in records.user_keys], dtype=np.int64)
    parts = []
    for start in range(0, len(records), _BATCH):
        batch = slice(start, start + _BATCH)
        histories = with_unknown.take_users(owners[batch])
        histories = histories.where(
            histories.occurred_at < np.repeat(records.shown_at[batch], histories.lengths)
        )
        histories = histories.asked(records.shown_at[batch])
        scores = np.asarray(scorer.score(histories))
        require_shape(scores, histories.users, len(catalogue))
        if not are_valid(scores):
            return None
        scores = mask_hidden(scores.astype(np.float32, copy=True), histories)
        scores = mask_unavailable(scores, catalogue, records.shown_at[batch])
        # Published lists show one item of a group, so a slate with two has no support in the log.
        mask_variants(scores, catalogue)
        parts.append(policy.distribution(scores, records.slates.shape[1]))
    return SlateDistribution(
        np.concatenate([part.items for part in parts]), np.concatenate([part.probabilities for part in parts])
    )
