"""Users that interleaving needs and that an experiment needs, under one click model with a known truth.

Each slate has its own 30 candidates, whose utilities are standard normal. Both versions rank them by utility
plus noise of their own, so their lists differ, and the version with less noise is better. A user answers
the item at position p with the probability a * u / log2(p + 1), where u = 1 / (1 + exp(1 - utility)) and a
differs between users (Beta, as in `benchmarks.experiment`). The noise of the challenger is chosen so that the
expected answers a slate have exactly the stated lift; without a difference, it is that of the champion. With
noise of 0.5 the versions want the same first item in half of the slates; with 1.0 (`unlike`), in a fifth.

`users` of both kinds are those that a two-sided test at 5 % needs, read once after four weeks, for a power of
80 %. The experiment's is adjusted for what users did before. `users_ratio` is their ratio. Then interleaved
experiments are looked at every day, as in production, with the product's own draft, effect and bounds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from recsys.experiments.decide import Aims, MetricReader, conclude
from recsys.experiments.effects import METRICS, PREFERENCE, VARIABLES, Moments, compare_arms
from recsys.experiments.preference import Interleaved
from recsys.publishing.interleaving import BOTH, CHALLENGER, CHAMPION, draft

POSITIONS = 10
_CANDIDATES = 30
_NOISE, _NOISE_OF_UNLIKE = 0.5, 1.0  # of the champion, standard deviation
_SLATES_IN_BANK = 60_000
_DAYS = 28
_RESERVE = 1.15
_AIMS = Aims((PREFERENCE.name,), {})
_EXAMINED = 1 / np.log2(np.arange(POSITIONS) + 2)


@dataclass(frozen=True)
class People:
    """How users differ.

    Attributes
    ----------
    slates
        A user, in four weeks; exponentially distributed.
    answers
        Parameters of the Beta distribution of a user's answers a slate of the champion.
    """

    slates: float
    answers: tuple[float, float]


@dataclass(frozen=True)
class _Bank:
    """Slates to draw from: the probability of an answer at each position for a user with a = 1.

    Attributes
    ----------
    champion, challenger, interleaved
        [slates, positions]
    picked_by
        [slates, positions] who picked the item of the interleaved list.
    scale
        What makes the mean of a the mean share of answered slates.
    """

    champion: NDArray[np.float64]
    challenger: NDArray[np.float64]
    interleaved: NDArray[np.float64]
    picked_by: NDArray[np.int8]
    scale: float


@dataclass(frozen=True)
class Measured:
    """What `measure` returns.

    Attributes
    ----------
    users_of_experiment, users_of_interleaving
        Users that each needs.
    unlike_ratio
        `users_ratio` of versions that seldom agree.
    users
        Of each interleaved experiment: 15 % more than it needs with one look.
    with_a_difference, without_a_difference
        [experiments] outcomes.
    """

    users_of_experiment: int
    users_of_interleaving: int
    unlike_ratio: float
    users: int
    with_a_difference: list[str]
    without_a_difference: list[str]

    @property
    def users_ratio(self) -> float:
        """Users that interleaving needs, of those that an experiment needs."""
        return self.users_of_interleaving / self.users_of_experiment


def measure(people: People, lift: float, experiments: int, seed: int) -> Measured:
    """Measure users of both kinds, and run interleaved experiments with and without a difference."""
    better = _better_bank(_NOISE, lift, seed)
    same = _bank(_NOISE, _NOISE, seed + 1)
    needed = _interleaved_users(better, people, seed)
    unlike = _better_bank(_NOISE_OF_UNLIKE, lift, seed)
    unlike_ratio = _interleaved_users(unlike, people, seed) / _experiment_users(unlike, people, seed)
    users = round(_RESERVE * needed)

    def run(bank: _Bank, kind: int) -> list[str]:
        return [
            _interleave(bank, people, users, np.random.default_rng([seed, kind, number]))
            for number in range(experiments)
        ]

    return Measured(
        _experiment_users(better, people, seed), needed, unlike_ratio, users, run(better, 10), run(same, 11)
    )


def _better_bank(noise: float, lift: float, seed: int) -> _Bank:
    """Return slates of a challenger with this lift in expected answers; bisection."""

    def gain(less: float) -> float:
        bank = _bank(noise, less, seed, interleave=False)
        return float(bank.challenger.sum() / bank.champion.sum() - 1)

    low, high = 0.0, noise
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if gain(middle) > lift else (low, middle)
    return _bank(noise, (low + high) / 2, seed)


def _bank(champions_noise: float, challengers_noise: float, seed: int, *, interleave: bool = True) -> _Bank:
    generator = np.random.default_rng([seed, 12])
    utility, *errors = generator.standard_normal((3, _SLATES_IN_BANK, _CANDIDATES))
    relevance = 1 / (1 + np.exp(1 - utility))
    rankings = [
        np.argsort(-(utility + size * error), axis=1)[:, :POSITIONS]
        for size, error in zip((champions_noise, challengers_noise), errors, strict=True)
    ]
    champion, challenger = (
        np.take_along_axis(relevance, ranking, axis=1) * _EXAMINED for ranking in rankings
    )
    mixed, picked_by = rankings[0], np.full(champion.shape, BOTH, dtype=np.int8)
    if interleave:
        coins = generator.random(champion.shape) < 0.5
        drafts = [
            draft(*pair, coin)
            for *pair, coin in zip(*(r.tolist() for r in rankings), coins.tolist(), strict=True)
        ]
        mixed = np.array([items for items, _ in drafts])
        picked_by = np.array([teams for _, teams in drafts], dtype=np.int8)
    return _Bank(
        champion, challenger, np.take_along_axis(relevance, mixed, axis=1) * _EXAMINED, picked_by,
        scale=1 / float(champion.sum(axis=1).mean()),
    )  # fmt: skip


def _visit(
    people: People, users: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the user of each slate, the slate in the bank, and each user's share of answers."""
    slates = generator.poisson(generator.gamma(1.0, people.slates, users))
    user = np.repeat(np.arange(users), slates)
    drawn = generator.integers(0, _SLATES_IN_BANK, len(user))
    return user, drawn, generator.beta(*people.answers, users)


def _experiment_users(bank: _Bank, people: People, seed: int, users: int = 400_000) -> int:
    """Return users of both arms that a test of click-through at a fixed horizon needs, adjusted."""
    generator = np.random.default_rng([seed, 13])
    often = generator.gamma(1.0, people.slates, users)
    share = generator.beta(*people.answers, users)
    values = np.zeros((users, len(VARIABLES)))
    in_challenger = np.arange(users) % 2 == 1
    for suffix in ("", "_before"):
        user = np.repeat(np.arange(users), generator.poisson(often))
        drawn = generator.integers(0, _SLATES_IN_BANK, len(user))
        answered = np.zeros(len(user), dtype=bool)
        for position in range(POSITIONS):
            probability = bank.champion[drawn, position]
            if not suffix:
                probability = np.where(in_challenger[user], bank.challenger[drawn, position], probability)
            answered |= generator.random(len(user)) < probability * share[user] * bank.scale
        for name, weight in (("slates", None), ("answered", answered)):
            values[:, VARIABLES.index(f"{name}{suffix}")] = np.bincount(user, weight, minlength=users)
    arms = [Moments(), Moments()]
    for arm, chosen in zip(arms, (~in_challenger, in_challenger), strict=True):
        arm.add(values[chosen & (values[:, 0] > 0)])
    effect = compare_arms(METRICS["click_through"], *arms)
    return _needed(users, effect.difference, effect.standard_error)


def _interleaved_users(bank: _Bank, people: People, seed: int, users: int = 400_000) -> int:
    """Return users that a test of the preference at a fixed horizon needs."""
    generator = np.random.default_rng([seed, 14])
    user, drawn, share = _visit(people, users, generator)
    answered = _answers(bank, user, drawn, share, generator)
    counts = _by_user(user, answered, users)
    effect = Interleaved(len(user), np.zeros((users, 2), dtype=np.int64), counts).effect()
    return _needed(users, effect.difference, effect.standard_error)


def _needed(users: int, difference: float, error: float) -> int:
    z = norm.ppf(0.975) + norm.ppf(0.8)
    return round(users * float(z * error / difference) ** 2)


def _answers(
    bank: _Bank,
    user: NDArray[np.int64],
    drawn: NDArray[np.int64],
    share: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Return [slates, 2] answered items that the champion and the challenger picked."""
    answered = np.zeros((len(user), 2), dtype=np.int64)
    for position in range(POSITIONS):
        probability = bank.interleaved[drawn, position] * share[user] * bank.scale
        happened = generator.random(len(user)) < probability
        team = bank.picked_by[drawn, position]
        answered[:, 0] += happened & (team == CHAMPION)
        answered[:, 1] += happened & (team == CHALLENGER)
    return answered


def _by_user(user: NDArray[np.int64], answered: NDArray[np.int64], users: int) -> NDArray[np.int64]:
    return np.stack(
        [np.bincount(user, answered[:, team], minlength=users) for team in (0, 1)], axis=1
    ).astype(np.int64)


def _interleave(bank: _Bank, people: People, users: int, generator: np.random.Generator) -> str:
    """Run one interleaved experiment with a look every day; return its outcome."""
    user, drawn, share = _visit(people, users, generator)
    answered = _answers(bank, user, drawn, share, generator)
    day = generator.integers(0, _DAYS, len(user))
    reader = MetricReader(_AIMS, PREFERENCE.name, "success")
    counts, slates = np.zeros((users, 2), dtype=np.int64), 0
    for today in range(_DAYS):
        rows = day == today
        counts = counts + _by_user(user[rows], answered[rows], users)
        slates += int(rows.sum())
        found = Interleaved(slates, np.zeros_like(counts), counts)
        passed = (today + 1) / _DAYS
        outcome = conclude([reader.read(found.effect(), passed)], passed)
        if outcome != "running":
            break
    return outcome
