"""Measure an experiment's error rates on simulated users, looked at every day for four weeks.

    python -m benchmarks.experiment --json F

Users differ in how often they look and in how much they answer. They come back, and they had four weeks
before the experiment too. The product's own code reads the experiment after each day: moments, effects,
bounds, decision. Success is click-through; guardrails are slates a user (margin 5 %) and dislikes (20 %).

`false_positive_rate` is the share of experiments without a difference in which one is declared, in either
direction. `power` is the share of those with a true lift that end with `challenger_better`. `sample_share`
is the mean number of slates shown until those end, as a share of those that a test at a fixed horizon needs
for a power of 80 %: two-sided at 5 %, read once after four weeks, of click-through alone, without what
users did before. `sample_share_adjusted` gives that test the adjustment too. `mismatch_detected` is the
share of experiments with a split of 52/48 instead of 50/50 that are stopped, `mismatch_false_alarms` that
of those with the right split. `limits` are 95 % intervals (Clopper and Pearson).

`users_ratio` is the number of users that interleaving needs, as a share of those that an experiment needs for
the same power; `false_preference_rate` is the share of interleaved experiments without a difference that end
with a preference, and `interleaved_power` that of those with one that find it (`benchmarks.interleaving`;
`unlike_users_ratio` is for versions that seldom agree).
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import beta, norm

from benchmarks.interleaving import People, measure
from recsys.experiments.decide import Aims, MetricReader, conclude
from recsys.experiments.effects import METRICS, VARIABLES, Moments, compare_arms
from recsys.experiments.mismatch import ALPHA, mismatch_p_value

_DAYS = 28
_SLATES = 6.0  # a user, in four weeks
_ANSWERS = (1.5, 13.5)  # parameters of the Beta distribution of a user's answers a slate; mean 0.1
_CONVERSIONS = 0.2  # of the answers
_DISLIKES = 0.02  # of the slates
_RESERVE = 1.15
"""Users, as a multiple of those that the plain test needs at its horizon: guardrails need some too."""
_AIMS = Aims(("click_through",), {"slates": 0.05, "dislikes": 0.2})


@dataclass(frozen=True)
class _Ended:
    outcome: str
    day: int
    slates: int
    slates_in_all: int
    mismatch: bool


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiments and print the rates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiment")
    parser.add_argument("--experiments", type=int, default=200, help="of each kind")
    parser.add_argument("--users", type=int, default=None, help="of both arms together; default: as needed")
    parser.add_argument("--lift", type=float, default=0.05, help="true relative gain in click-through")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    plain, adjusted = _fixed_horizon_users(options.lift, options.seed)
    users = options.users or round(_RESERVE * plain)
    figures: dict[str, object] = {
        "experiments": options.experiments, "users": users, "days": _DAYS, "slates_a_user": _SLATES,
        "lift": options.lift, "fixed_horizon_users": plain, "fixed_horizon_users_adjusted": adjusted,
    }  # fmt: skip

    def run(kind: int, lift: float, split: float) -> list[_Ended]:
        return [
            _experiment(users, lift, split, np.random.default_rng([options.seed, kind, number]))
            for number in range(options.experiments)
        ]

    def rate(name: str, found: Sequence[bool]) -> None:
        figures[name] = sum(found) / len(found)
        figures[f"{name}_limits"] = _limits(sum(found), len(found))
        print(f"{name:<24} {figures[name]:.3f}  {figures[f'{name}_limits']}")

    same = run(0, 0.0, 0.5)
    undecided = ("no_difference_shown", "guardrail_not_shown")
    rate("false_positive_rate", [ended.outcome not in undecided for ended in same])
    rate("mismatch_false_alarms", [ended.mismatch for ended in same])
    better = run(1, options.lift, 0.5)
    rate("power", [ended.outcome == "challenger_better" for ended in better])
    needed = plain / users * float(np.mean([ended.slates_in_all for ended in better]))
    used = float(np.mean([ended.slates for ended in better]))
    figures["sample_share"] = used / needed
    figures["sample_share_adjusted"] = used / needed * plain / adjusted
    figures["outcomes"] = Counter(ended.outcome for ended in better)
    rate("mismatch_detected", [ended.mismatch for ended in run(2, 0.0, 0.52)])
    interleaving = measure(People(_SLATES, _ANSWERS), options.lift, options.experiments, options.seed)
    same_outcomes, better_outcomes = interleaving.without_a_difference, interleaving.with_a_difference
    figures |= {
        "users_ratio": interleaving.users_ratio, "unlike_users_ratio": interleaving.unlike_ratio,
        "interleaved_users": interleaving.users,
        "users_of_interleaving": interleaving.users_of_interleaving,
        "users_of_experiment": interleaving.users_of_experiment,
    }  # fmt: skip
    rate("false_preference_rate", [outcome != "no_difference_shown" for outcome in same_outcomes])
    rate("interleaved_power", [outcome == "challenger_better" for outcome in better_outcomes])
    figures["seconds"] = round(time.monotonic() - started, 1)
    print(
        f"{users} users, sample_share {figures['sample_share']:.3f} "
        f"(adjusted {figures['sample_share_adjusted']:.3f}), {figures['outcomes']}, users_ratio "
        f"{interleaving.users_ratio:.3f} (unlike {interleaving.unlike_ratio:.3f}), {figures['seconds']} s"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _experiment(users: int, lift: float, split: float, generator: np.random.Generator) -> _Ended:
    """Run one experiment; `split` is the true share of the challenger, of which a half is planned."""
    in_challenger = generator.random(users) < split
    values, days = _simulate(users, np.where(in_challenger, 1 + lift, 1.0), generator)
    readers = {name: MetricReader(_AIMS, name, role) for name, role in _AIMS.metrics}
    total = int(values[:, 0].sum())
    mismatch = False
    for day, so_far in enumerate(days, start=1):
        seen = so_far[:, 0] > 0
        arms = [Moments(), Moments()]
        for arm, members in zip(arms, (seen & ~in_challenger, seen & in_challenger), strict=True):
            arm.add(so_far[members])
        mismatch = mismatch or mismatch_p_value([arm.users for arm in arms], [0.5, 0.5]) <= ALPHA
        share = day / _DAYS
        readings = [
            reader.read(compare_arms(METRICS[name], *arms), share) for name, reader in readers.items()
        ]
        outcome = conclude(readings, share)
        if outcome != "running":
            break
    return _Ended(outcome, day, int(so_far[:, 0].sum()), total, mismatch)


def _simulate(
    users: int, factor: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Return what users did in all, and day by day what they have done until then; each [users, variables].

    `factor` [users] multiplies how much a user answers in the experiment.
    """
    often = generator.gamma(1.0, _SLATES, users)
    answers = generator.beta(*_ANSWERS, users)
    counts = np.zeros((_DAYS, users, len(VARIABLES)), dtype=np.float32)
    slates = generator.poisson(often)
    user = np.repeat(np.arange(users), slates)
    day = generator.integers(0, _DAYS, len(user))
    answered = generator.random(len(user)) < (answers * factor)[user]
    events = (
        np.ones(len(user), dtype=bool),
        answered,
        answered & (generator.random(len(user)) < _CONVERSIONS),
        generator.random(len(user)) < _DISLIKES,
    )
    for column, happened in enumerate(events):
        np.add.at(counts, (day[happened], user[happened], column), 1)
    before = generator.poisson(often)
    counts[0, :, 4] = before
    counts[0, :, 5] = generator.binomial(before, answers)
    counts[0, :, 6] = generator.binomial(counts[0, :, 5].astype(int), _CONVERSIONS)
    counts[0, :, 7] = generator.binomial(before, _DISLIKES)

    def so_far() -> Iterator[np.ndarray]:
        total = np.zeros((users, len(VARIABLES)))
        for today in counts:
            total += today
            yield total

    return counts.sum(axis=0), so_far()


def _fixed_horizon_users(lift: float, seed: int, users: int = 400_000) -> tuple[int, int]:
    """Return users of both arms that a test at a fixed horizon needs, without and with the adjustment."""
    generator = np.random.default_rng([seed, 3])
    values, _ = _simulate(users, np.ones(users), generator)
    values = values[values[:, 0] > 0].astype(float)
    arms = [Moments(), Moments()]
    arms[0].add(values[::2])
    arms[1].add(values[1::2])
    effect = compare_arms(METRICS["click_through"], *arms)
    z = norm.ppf(0.975) + norm.ppf(0.8)
    adjusted = users * (z * effect.standard_error / (lift * effect.control)) ** 2
    return round(adjusted / effect.variance_ratio), round(adjusted)


def _limits(successes: int, trials: int) -> list[float]:
    low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    return [round(float(low), 4), round(float(high), 4)]


if __name__ == "__main__":
    main()
