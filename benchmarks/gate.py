"""Measure the gate's false promotion rate and power on simulated users.

    python -m benchmarks.gate --json F

Users with known preferences are fitted on real ratings. Champion and candidate are scorers that see the true
preferences with noise. With the same amount of noise a candidate is exactly as good as the champion, with
less it is better. The noise that makes it 5 % better in NDCG@10 is found on many more users than are
evaluated. Each trial draws new users, new held-out events and a new candidate, and runs `compare_scorers` and
`decide` with superiority required.

`false_promotion_rate` and `power` are the shares of promotions among candidates that are as good as the
champion and truly 5 % better; `limits` are their 95 % intervals (Clopper and Pearson). `users` is the sample
size of each trial.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import beta

from recsys.catalogues.movielens import load_movielens
from recsys.evaluation.compare import compare_scorers
from recsys.evaluation.ranking.baselines import POPULARITY
from recsys.evaluation.result import CANDIDATE, CHAMPION
from recsys.promotion.gate import PROMOTE, Decision, decide
from recsys.settings import EvaluationSettings, GateSettings, Settings
from recsys.simulation.world import World, WorldSettings, fit_world
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences, microseconds

_START = datetime(2026, 1, 1, tzinfo=UTC)
_TYPES = EventTypes.from_records([{"event_type": "like", "explicit": True, "weight": 1.0, "polarity": 1}])
_HISTORY = 5
_CHAMPION_NOISE = 1.0
_SHARED = 0.8
"""Share of the noise's variance that both models have in common, because they learn from the same data."""
_CALIBRATION_USERS = 10_000


@dataclass(frozen=True)
class _Known:
    """Fixed scores by user; the user's key is the row number."""

    scores: np.ndarray

    def score(self, histories: Sequences) -> np.ndarray:
        rows = np.array([int(key) for key in histories.user_keys], dtype=np.int64)
        return self.scores[rows].astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the trials and print both rates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--users", type=int, default=2_000, help="users with held-out feedback in each trial")
    parser.add_argument("--cases", type=int, default=5, help="held-out events per user")
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument(
        "--better", type=float, default=0.05, help="true relative gain in NDCG@10 of better candidates"
    )
    parser.add_argument("--resamples", type=int, default=EvaluationSettings().bootstrap_resamples)
    parser.add_argument("--data", type=Path, help="folder of MovieLens files; default: MovieLens-100K")
    parser.add_argument("--cache", type=Path, default=Path(".recsys/wheels"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    world = simulated_world(options.cache, options.data, options.items)
    noise = noise_of_a_better_model(world, options.cases, options.better, options.seed)
    evaluation = EvaluationSettings(max_cases_per_user=options.cases, bootstrap_resamples=options.resamples)
    figures: dict[str, object] = {
        "users": options.users, "cases_per_user": options.cases, "items": world.items,
        "trials": options.trials, "resamples": options.resamples, "better": options.better,
    }  # fmt: skip
    for name, spread in (("false_promotion_rate", _CHAMPION_NOISE), ("power", noise)):
        decisions = [
            _trial(world, options.users, evaluation, spread, np.random.default_rng([options.seed, n]))
            for n in range(options.trials)
        ]
        promoted = sum(decision.action == PROMOTE for decision in decisions)
        figures[name] = promoted / options.trials
        figures[f"{name}_limits"] = rate_limits(promoted, options.trials)
        figures[f"{name}_reasons"] = dict(Counter(decision.reason for decision in decisions))
        print(f"{name:<22} {figures[name]:.3f}  {figures[f'{name}_limits']}  {figures[f'{name}_reasons']}")
    figures["seconds"] = round(time.monotonic() - started, 1)
    print(f"{options.users} users with {options.cases} events each, {figures['seconds']} s")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def simulated_world(cache: Path, data: Path | None, items: int) -> World:
    """Fit users with known preferences on real ratings."""
    ratings = load_movielens(cache, data).ratings
    frame = pd.DataFrame(
        {
            "user_id": [rating.user_id for rating in ratings],
            "item_id": [rating.item_id for rating in ratings],
            "value": [rating.value for rating in ratings],
        }
    )
    return fit_world(frame, WorldSettings(), max_items=items)


def _draw(
    world: World, users: int, cases: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return true preferences [users, items] and events [users, history + cases] drawn by preference."""
    chosen = generator.integers(0, world.users, users)
    preference = world.preference(chosen)
    # Gumbel noise on the log odds draws by softmax without replacement.
    keys = 2.0 * preference + generator.gumbel(size=preference.shape)
    return preference, np.argsort(-keys, axis=1)[:, : _HISTORY + cases]


def _scores(
    preference: np.ndarray, shared: np.ndarray, spread: float, generator: np.random.Generator
) -> np.ndarray:
    own = generator.standard_normal(preference.shape)
    return preference + spread * (np.sqrt(_SHARED) * shared + np.sqrt(1 - _SHARED) * own)


def per_user_ndcg(
    world: World, users: int, cases: int, better_noise: float | None, generator: np.random.Generator
) -> np.ndarray:
    """Return [users, 2] NDCG@10 of a candidate and a champion; equally good ones without `better_noise`."""
    preference, events = _draw(world, users, cases, generator)
    shared = generator.standard_normal(preference.shape)
    spreads = (_CHAMPION_NOISE if better_noise is None else better_noise, _CHAMPION_NOISE)
    return np.stack(
        [_ndcg(_scores(preference, shared, spread, generator), events) for spread in spreads], axis=1
    )


def _ndcg(preference_scores: np.ndarray, events: np.ndarray, k: int = 10) -> np.ndarray:
    """Return [users] the mean NDCG@k over held-out events, each predicted from all earlier ones."""
    values = []
    scores = preference_scores.copy()
    rows = np.arange(len(events))
    for position in range(events.shape[1]):
        target = events[:, position]
        if position >= _HISTORY:
            rank = (scores >= scores[rows, target][:, None]).sum(axis=1)
            values.append(np.where(rank <= k, 1 / np.log2(1 + rank), 0.0))
        scores[rows, target] = -np.inf
    return np.asarray(np.mean(values, axis=0))


def noise_of_a_better_model(world: World, cases: int, better: float, seed: int) -> float:
    """Return the noise at which a model is truly better by this share; found by bisection."""
    generator = np.random.default_rng([seed, 1_000_000])
    preference, events = _draw(world, _CALIBRATION_USERS, cases, generator)
    noise = generator.standard_normal(preference.shape)
    wanted = (1 + better) * _ndcg(preference + _CHAMPION_NOISE * noise, events).mean()
    low, high = 0.0, _CHAMPION_NOISE
    for _ in range(12):
        middle = (low + high) / 2
        found = _ndcg(preference + middle * noise, events).mean()
        low, high = (middle, high) if found > wanted else (low, middle)
    return (low + high) / 2


def _trial(
    world: World, users: int, evaluation: EvaluationSettings, spread: float, generator: np.random.Generator
) -> Decision:
    preference, events = _draw(world, users, evaluation.max_cases_per_user, generator)
    shared = generator.standard_normal(preference.shape)
    champion = _scores(preference, shared, _CHAMPION_NOISE, generator)
    candidate = _scores(preference, shared, spread, generator)
    popularity = np.broadcast_to(world.appeal, preference.shape)
    width = events.shape[1]
    sequences = Sequences.build(
        user_keys=[str(number) for number in range(users)],
        user_index=np.repeat(np.arange(users), width),
        item_index=events.ravel(),
        event_type=np.zeros(events.size, dtype=int),
        value=np.full(events.size, np.nan),
        occurred_at=microseconds(_START) + np.tile(np.arange(width), users) * 60_000_000,
        feedback_id=np.arange(events.size),
        event_types=_TYPES,
    )
    names = world.item_ids.tolist()
    settings = Settings(evaluation=evaluation, gate=GateSettings(require_superiority=True))
    comparison = compare_scorers(
        {CANDIDATE: _Known(candidate), CHAMPION: _Known(champion)},
        {POPULARITY: _Known(popularity)},
        sequences,
        Catalogue.build(names, titles=names),
        _START + timedelta(minutes=_HISTORY),
        settings.evaluation,
        opponent_version="1",
    )
    return decide("full", comparison.held_out, settings, fresher=False)


def rate_limits(successes: int, trials: int) -> list[float]:
    """Return the 95 % interval of a share (Clopper and Pearson)."""
    low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    return [round(float(low), 4), round(float(high), 4)]


if __name__ == "__main__":
    main()
