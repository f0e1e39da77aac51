"""Measure the interval of the difference of two policies on simulated logs, where the truth is known.

Users with known preferences are fitted on real ratings. Lists of the champion that explore are logged, and
candidate and champion are compared on them. Both models see the true preferences with noise, of which they
share most, as models do that learn from the same data: a nightly candidate less than an hourly update and its
parent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys.catalogues.movielens import load_movielens
from recsys.evaluation.off_policy.difference import Difference, estimate_difference
from recsys.evaluation.off_policy.estimators import (
    Estimate,
    LoggedSlates,
    clustered_mean,
    contributions,
    estimate,
)
from recsys.evaluation.off_policy.slates import Greedy, SlateDistribution, position_probabilities
from recsys.simulation.world import World, WorldSettings, fit_world

_ITEMS, _POOL, _SHOWN = 400, 20, 5
_NOISE = 0.5
_SHARED = {"nightly": 0.8, "hourly": 0.98}
"""Share of the noise's variance that candidate and champion have in common."""
_TEMPERATURE = 1.0


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two policies, the chance of a click on each item of the pool [users, pool], and the truth."""

    policies: tuple[SlateDistribution, SlateDistribution]
    clicks: np.ndarray
    truth: float


def measure_differences(cache: Path, data: Path | None, logs: int, slates: int) -> dict[str, Any]:
    """Return coverage and widths of the difference's interval, by pair of models."""
    ratings = pd.DataFrame(
        [(each.user_id, each.item_id, each.value) for each in load_movielens(cache, data).ratings],
        columns=["user_id", "item_id", "value"],
    )
    world = fit_world(ratings, WorldSettings(), max_items=_ITEMS)
    figures = {}
    for name, shared in _SHARED.items():
        pair = _pair(world, shared, np.random.default_rng(0))
        rows = [_row(world, pair, slates, np.random.default_rng([1, number])) for number in range(logs)]
        figures[name] = _summary(pair, rows)
    return {"logs": logs, "slates": slates, **figures}


def _pair(world: World, shared: float, generator: np.random.Generator) -> _Pair:
    users = np.arange(world.users)
    preference = world.preference(users)
    common = generator.normal(0, _NOISE * np.sqrt(shared), preference.shape)

    def model() -> np.ndarray:
        own = generator.normal(0, _NOISE * np.sqrt(1 - shared), preference.shape)
        return np.asarray((preference + common + own).astype(np.float32))

    champion, candidate = model(), model()
    pool = Greedy().distribution(champion, _POOL).items
    among = np.full_like(candidate, -np.inf)
    np.put_along_axis(among, pool, np.take_along_axis(candidate, pool, axis=1), axis=1)
    ranked = [_ranked(scores, pool) for scores in (among, champion)]
    first, second = (SlateDistribution(pool, each) for each in ranked)
    truth = world.expected_clicks(users, first).mean() - world.expected_clicks(users, second).mean()
    clicks = np.take_along_axis(world.click_probability(preference), pool, axis=1)
    return _Pair((first, second), clicks, float(truth))


def _ranked(scores: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Return [users, pool, positions] 1 where the scores rank the pool's item at the position."""
    items = Greedy().distribution(scores, _SHOWN).items
    return (pool[:, :, None] == items[:, None, :]).astype(np.float64)


def _row(world: World, pair: _Pair, slates: int, generator: np.random.Generator) -> Mapping[str, Any]:
    rates = np.arange(1.0, _POOL + 1) ** (-1 / _TEMPERATURE)
    table = position_probabilities(rates[None], _SHOWN)[0]
    users = generator.integers(0, world.users, slates)
    arrivals = generator.standard_exponential((slates, _POOL)) / rates
    ranks = np.argsort(arrivals, axis=1)[:, :_SHOWN]
    positions = np.arange(_SHOWN)
    chance = pair.clicks[users[:, None], ranks] * world.examination(_SHOWN)
    rewards = (generator.random(chance.shape) < chance).astype(np.float64)
    shown = np.ones(chance.shape, dtype=bool)
    logged = [
        LoggedSlates(
            rewards,
            table[ranks, positions],
            policy.probabilities[users[:, None], ranks, positions],
            users,
            shown,
        )
        for policy in pair.policies
    ]
    first, second = pair.policies
    gained, lost = first.excess_over(second)[users], second.excess_over(first)[users]
    found = estimate_difference(logged[0], logged[1], gained, lost)
    separate = [_width(estimate(each, "snips")) for each in logged]
    paired = {
        method: clustered_mean(
            contributions(logged[0], method) - contributions(logged[1], method), users, 0.95, method
        )
        for method in ("ips", "snips")
    }
    return {
        "covered": found.low <= pair.truth <= found.high,
        "found": found,
        "sum": _width(found) / sum(separate),
        "root": _width(found) / float(np.hypot(*separate)),
        **{method: _width(found) / _width(each) for method, each in paired.items()},
    }


def _summary(pair: _Pair, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    def middle(name: str) -> float:
        return round(float(np.median([row[name] for row in rows])), 4)

    def of_found(name: str) -> float:
        return round(float(np.median([getattr(row["found"], name) for row in rows])), 4)

    return {
        "truth": round(pair.truth, 5),
        "coverage": float(np.mean([row["covered"] for row in rows])),
        "width_to_sum_of_separate": middle("sum"),
        "width_to_root_of_squares": middle("root"),
        "width_to_paired_ips": middle("ips"),
        "width_to_paired_snips": middle("snips"),
        "changed_positions": of_found("changed"),
        "overlap": of_found("overlap"),
        "effective_slates": of_found("effective_slates"),
        "effective_users": of_found("effective_users"),
    }


def _width(each: Difference | Estimate) -> float:
    return each.high - each.low
