"""Compare our off-policy estimators with those of package `obp`, and with the truth of simulated logs.

    python -m benchmarks.off_policy --json F

The wheel of `obp` is downloaded but not installed: its estimators are imported and its sample of the Open
Bandit Dataset is read from the file. `largest_difference` is over all estimators, campaigns and target
policies. `obp` has no estimator of a difference; ours without its control variate is the difference of two of
its values.

`difference` is about the interval of the difference of two policies on simulated logs: the share of logs in
which it covers the truth, and its width as a share of the sum of the two policies' own intervals (which is
what comparing two separate estimates needs), of their root of squares, and of paired differences of other
estimators.
"""

import argparse
import importlib
import json
import sys
import types
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.policy_differences import measure_differences
from recsys.catalogues.wheel import download_wheel
from recsys.evaluation.off_policy.difference import estimate_difference
from recsys.evaluation.off_policy.estimators import LoggedSlates, estimate

_REQUIREMENT = "obp==0.4.1"
_ITEMS, _POSITIONS = {"all": 80, "men": 34, "women": 46}, 3
_SLATE = 3
"""Consecutive rows joined to one slate, to compare the estimator of whole slates."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the estimators and print the largest differences."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.off_policy")
    parser.add_argument("--wheel", type=Path, help="the wheel of obp 0.4.1; default: downloaded")
    parser.add_argument("--cache", type=Path, default=Path(".recsys/wheels"))
    parser.add_argument("--data", type=Path, help="folder of MovieLens files; default: MovieLens-100K")
    parser.add_argument("--logs", type=int, default=200, help="simulated logs of each pair of policies")
    parser.add_argument("--slates", type=int, default=5_000, help="slates in each of them")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    wheel = options.wheel or download_wheel(_REQUIREMENT, options.cache)
    theirs = _import_from(wheel)
    differences: dict[str, float] = {}
    rounds = 0
    for behaviour in ("bts", "random"):
        for campaign, items in _ITEMS.items():
            log = _read(wheel, behaviour, campaign)
            rounds += len(log)
            policies = {name: _policy(name, items) for name in ("uniform", "skewed")}
            for policy in policies.values():
                _compare(theirs, log, policy, differences)
            _compare_pair(theirs, log, policies["skewed"], policies["uniform"], differences)
    for name, difference in differences.items():
        print(f"{name:<32} {difference:.2e}")
    figures: dict[str, Any] = {
        "rounds": rounds,
        "largest_difference": max(differences.values()),
        "differences": differences,
    }
    print(f"largest difference {figures['largest_difference']:.2e} over {rounds:,} logged rounds")
    figures["difference"] = measure_differences(options.cache, options.data, options.logs, options.slates)
    print(json.dumps(figures["difference"], indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _import_from(wheel: Path) -> dict[str, Any]:
    """Import the two estimator modules without their package, which needs a plotting library."""
    sys.path.insert(0, str(wheel))
    for name in ("obp", "obp.ope"):
        package = types.ModuleType(name)
        package.__path__ = [str(wheel / name.replace(".", "/"))]
        sys.modules[name] = package
    single = importlib.import_module("obp.ope.estimators")
    slate = importlib.import_module("obp.ope.estimators_slate")
    return {**vars(single), **vars(slate)}


def _read(wheel: Path, behaviour: str, campaign: str) -> pd.DataFrame:
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(f"obp/dataset/obd/{behaviour}/{campaign}/{campaign}.csv") as file,
    ):
        log = pd.read_csv(file, usecols=["item_id", "position", "click", "propensity_score"])
    log["position"] -= 1
    return log


def _policy(name: str, items: int) -> np.ndarray:
    """Return [items, positions] probabilities that are the same in every context."""
    if name == "uniform":
        return np.full((items, _POSITIONS), 1 / items)
    scores = np.random.default_rng(0).normal(0, 1, (items, _POSITIONS))
    return np.exp(scores) / np.exp(scores).sum(axis=0)


def _compare(
    theirs: dict[str, Any], log: pd.DataFrame, policy: np.ndarray, differences: dict[str, float]
) -> None:
    rounds = len(log)
    action, position = log["item_id"].to_numpy(), log["position"].to_numpy()
    reward, propensity = log["click"].to_numpy(float), log["propensity_score"].to_numpy()
    predictions = np.random.default_rng(1).beta(1, 100, policy.shape)
    one = np.ones((rounds, 1), dtype=bool)
    target = policy[action, position]
    logged = LoggedSlates(
        rewards=reward[:, None],
        propensities=propensity[:, None],
        targets=target[:, None],
        users=np.arange(rounds),
        shown=one,
        predicted=predictions[action, position][:, None],
        predicted_target=(policy * predictions).sum(axis=0)[position][:, None],
    )
    given = {
        "reward": reward,
        "action": action,
        "pscore": propensity,
        "position": position,
        "action_dist": np.broadcast_to(policy, (rounds, *policy.shape)),
    }
    model = {"estimated_rewards_by_reg_model": np.broadcast_to(predictions, (rounds, *predictions.shape))}
    direct = {name: given[name] for name in ("action_dist", "position")}
    pairs = {
        "ips": theirs["InverseProbabilityWeighting"]().estimate_policy_value(**given),
        "snips": theirs["SelfNormalizedInverseProbabilityWeighting"]().estimate_policy_value(**given),
        "direct": theirs["DirectMethod"]().estimate_policy_value(**direct, **model),
        "doubly_robust": theirs["DoublyRobust"]().estimate_policy_value(**given, **model),
        "self_normalised_doubly_robust": theirs["SelfNormalizedDoublyRobust"]().estimate_policy_value(
            **given, **model
        ),
    }
    for name, value in pairs.items():
        _note(differences, name, estimate(logged, name).value, value)  # type: ignore[arg-type]
    _compare_slates(theirs, reward, propensity, target, differences)


def _compare_pair(
    theirs: dict[str, Any],
    log: pd.DataFrame,
    first: np.ndarray,
    second: np.ndarray,
    differences: dict[str, float],
) -> None:
    rounds = len(log)
    action, position = log["item_id"].to_numpy(), log["position"].to_numpy()
    reward, propensity = log["click"].to_numpy(float), log["propensity_score"].to_numpy()
    logged = [
        LoggedSlates(
            reward[:, None], propensity[:, None], policy[action, position][:, None],
            np.arange(rounds), np.ones((rounds, 1), dtype=bool),
        )
        for policy in (first, second)
    ]  # fmt: skip
    excess = [
        np.maximum(a - b, 0).sum(axis=0)[position][:, None] for a, b in ((first, second), (second, first))
    ]
    found = estimate_difference(logged[0], logged[1], *excess)
    weights = (first - second)[action, position] / propensity
    value, other = (
        theirs["InverseProbabilityWeighting"]().estimate_policy_value(
            reward=reward, action=action, pscore=propensity, position=position,
            action_dist=np.broadcast_to(policy, (rounds, *policy.shape)),
        )
        for policy in (first, second)
    )  # fmt: skip
    _note(differences, "difference, ips", found.value + found.baselines[0] * weights.mean(), value - other)
    best = (weights**2 * reward).sum() / (weights**2).sum()
    _note(differences, "difference, baseline of the paper", found.baselines[0], best)


def _compare_slates(
    theirs: dict[str, Any],
    reward: np.ndarray,
    propensity: np.ndarray,
    target: np.ndarray,
    differences: dict[str, float],
) -> None:
    slates = len(reward) // _SLATE
    rows = slates * _SLATE
    rewards, propensities, targets = (
        values[:rows].reshape(slates, _SLATE) for values in (reward, propensity, target)
    )
    logged = LoggedSlates(
        rewards, propensities, targets, np.arange(slates), np.ones(rewards.shape, dtype=bool)
    )
    value = theirs["SlateIndependentIPS"](len_list=_SLATE).estimate_policy_value(
        slate_id=np.repeat(np.arange(slates), _SLATE),
        reward=rewards.ravel(),
        position=np.tile(np.arange(_SLATE), slates),
        pscore_item_position=propensities.ravel(),
        evaluation_policy_pscore_item_position=targets.ravel(),
    )
    _note(differences, "ips, slates", estimate(logged, "ips").value, value)


def _note(differences: dict[str, float], name: str, ours: float, value: float) -> None:
    differences[name] = max(differences.get(name, 0.0), abs(ours - float(value)))


if __name__ == "__main__":
    main()
