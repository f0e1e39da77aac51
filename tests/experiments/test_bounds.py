"""Bounds of repeated looks keep the error rate, whatever the looks have in common."""

import numpy as np
import pytest

from recsys.experiments.bounds import Bounds, upper_bounds

ALPHA = 0.025
PATHS = 200_000
WEEKS = np.arange(1, 5) / 4
DAYS = np.arange(1, 29) / 28
HOURS = np.arange(1, 673) / 672


def reached(bounds: np.ndarray, information: np.ndarray, seed: int = 0) -> float:
    """Share of paths without a difference that reach a bound at any look."""
    generator = np.random.default_rng(seed)
    steps = np.sqrt(np.diff(information, prepend=0.0))
    total = np.zeros(PATHS)
    over = np.zeros(PATHS, dtype=bool)
    for step, bound, now in zip(steps, bounds, information, strict=True):
        total += step * generator.standard_normal(PATHS)
        over |= total / np.sqrt(now) >= bound
    return float(over.mean())


def test_one_look_at_the_end_is_the_usual_test() -> None:
    assert upper_bounds([1.0], [123.0], ALPHA) == pytest.approx([1.95996], abs=1e-4)


@pytest.mark.parametrize(
    ("shares", "information"),
    [(WEEKS, WEEKS), (DAYS, DAYS), (DAYS, DAYS**2), (DAYS, 0.1 + 0.9 * DAYS)],
)
def test_all_looks_together_err_as_often_as_allowed(shares: np.ndarray, information: np.ndarray) -> None:
    share = reached(upper_bounds(shares.tolist(), information.tolist(), ALPHA), information)
    assert share == pytest.approx(ALPHA, abs=4 * np.sqrt(ALPHA / PATHS))


def test_a_look_every_hour_errs_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PATHS", 40_000)
    share = reached(upper_bounds(HOURS.tolist(), HOURS.tolist(), ALPHA), HOURS)
    assert share == pytest.approx(ALPHA, abs=4 * np.sqrt(ALPHA / PATHS))


def test_the_usual_bound_at_every_look_errs_far_too_often() -> None:
    assert reached(np.full(28, 1.96), DAYS) > 4 * ALPHA


def test_a_look_without_new_information_spends_nothing_and_leaves_it_to_the_next() -> None:
    bounds = upper_bounds([0.25, 0.5, 0.5, 0.75, 1.0], [10, 20, 20, 15, 40], ALPHA)
    assert np.isinf(bounds[2:4]).all()
    assert bounds[[0, 1, 4]] == pytest.approx(upper_bounds([0.25, 0.5, 1.0], [10, 20, 40], ALPHA))


def test_after_the_planned_time_nothing_more_is_spent() -> None:
    bounds = Bounds(ALPHA)
    assert np.isfinite(bounds.look(1.0, 10.0))
    assert bounds.look(1.4, 20.0) == np.inf


def test_users_who_come_back_make_the_bounds_no_less_safe() -> None:
    """Users who enter day by day and return every day, with lasting differences between them."""
    generator = np.random.default_rng(1)
    runs, users, days = 4_000, 56, 14
    day = np.arange(1, days + 1)
    entered = np.arange(users) % days
    seen = np.clip(day[:, None] - entered, 0, None)  # [days, users]
    taste = generator.standard_normal((runs, users))
    noise = generator.standard_normal((runs, days, users)) * (seen > 0)
    did = np.cumsum(noise, axis=1) + seen * taste[:, None, :]
    signs = np.where(np.arange(users) // days % 2, 1.0, -1.0)
    estimates = (did * signs).sum(axis=2) / seen.sum(axis=1)
    errors = np.sqrt((seen + seen**2).sum(axis=1)) / seen.sum(axis=1)
    bounds = upper_bounds((day / days).tolist(), seen.sum(axis=1).tolist(), 0.05)
    share = ((estimates / errors) >= bounds).any(axis=1).mean()
    assert share < 0.05 + 3 * np.sqrt(0.05 / runs)
