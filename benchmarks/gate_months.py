"""Measure the gate's false claims over whole months of nights and hours, and what the correction costs.

    python -m benchmarks.gate_months --json F

Users with known preferences are fitted on real ratings, as in `benchmarks.gate`. Per-user NDCG@10 of pairs of
equally good models is drawn once for many users. Each test draws users from it and swaps the two models of a
user by chance, so that the true difference is exactly 0. A month has 30 nights and 720 hours; every gate
makes the test of `recsys.promotion.superiority` and spends from the month's probability of error.

The p-value of that test is never below the paired t-test's. So t-tests are made in bulk, and the whole test
only where the t-test alone would show something at the highest level that occurs.

`false_months` is the share of months in which any candidate was called better than the champion: with the
month's probability shared by the nights alone (the default), by nights and hours, and without sharing.
`expected` is what tests that hold their levels exactly would give.
`power` is the chance that a candidate that is truly 5 % better is found in one night: at the level of a
single test, at a night's share of the month, and at a week's share. `within_days` is the same for a candidate
that stays better on several nights.

`decline` is about a champion that loses `--daily-loss` of its NDCG a day in a system that has run for a
month: the share of declines that monitoring reports within ten days, and its false alarms in months without
a decline.
"""

import argparse
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from scipy.special import stdtr

from benchmarks.gate import noise_of_a_better_model, per_user_ndcg, rate_limits, simulated_world
from recsys.evaluation.earlier import Decline, declines, earlier_name
from recsys.evaluation.ranking.metrics import metric_names
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation, SliceResult
from recsys.promotion.superiority import EarlierTest, Kind, next_level, superiority_p_value
from recsys.settings import EvaluationSettings, GateSettings, Settings

_START = datetime(2026, 4, 1, tzinfo=UTC)
_DAYS, _NIGHT = 30, 3
_BANK_USERS = 20_000  # twice as many are numbered by 16 bits
_SINGLE = 0.025
_HIGHEST: dict[Kind, float] = {"full": _SINGLE, "micro": 0.0001}
"""Levels above which no test is made; an hour has a fifth of 0.05 / 720."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the months and print the rates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_months")
    parser.add_argument("--months", type=int, default=10_000)
    parser.add_argument("--declines", type=int, default=200, help="declines, and months without one")
    parser.add_argument("--users", type=int, default=2_000, help="users with held-out feedback in each night")
    parser.add_argument("--hour-users", type=int, default=200, help="the same in each hour")
    parser.add_argument("--cases", type=int, default=5, help="held-out events per user")
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--better", type=float, default=0.05, help="true relative gain of better candidates")
    parser.add_argument(
        "--daily-loss", type=float, default=0.005, help="NDCG that a slow decline loses a day"
    )
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--data", type=Path, help="folder of MovieLens files; default: MovieLens-100K")
    parser.add_argument("--cache", type=Path, default=Path(".recsys/wheels"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    world = simulated_world(options.cache, options.data, options.items)
    noise = noise_of_a_better_model(world, options.cases, options.better, options.seed)
    generator = np.random.default_rng([options.seed, 1])
    alike = per_user_ndcg(world, _BANK_USERS, options.cases, None, generator)
    better = per_user_ndcg(world, _BANK_USERS, options.cases, noise, generator)
    evaluation = EvaluationSettings(bootstrap_resamples=options.resamples)
    settings = Settings(evaluation=evaluation)
    with_hours = Settings(
        evaluation=evaluation, gate=GateSettings(on_inconclusive={"better_than_champion": "hold"})
    )
    months = [
        _month(alike, options.users, options.hour_users, settings, [options.seed, 2, number])
        for number in range(options.months)
    ]
    p_values = np.array([_p_value(_pairs(better, options.users, generator), settings) for _ in range(1_000)])
    share = settings.gate.monthly_error / _DAYS
    decline = [
        _first_alert(alike, options.users, settings, options.daily_loss, 10, [options.seed, 3, number])
        for number in range(options.declines)
    ]
    steady = [
        _first_alert(alike, options.users, settings, 0.0, _DAYS, [options.seed, 4, number])
        for number in range(options.declines)
    ]
    figures = {
        "months": options.months,
        "users": options.users,
        "hour_users": options.hour_users,
        "resamples": options.resamples,
        "true_gain": round(float(better[:, 0].mean() / better[:, 1].mean() - 1), 4),
        "false_months": {
            name: _false_months(months, kinds, chosen)
            for name, kinds, chosen in (
                ("nights", ("full",), settings),
                ("nights_and_hours", ("full", "micro"), with_hours),
                ("not_shared", ("full",), None),
            )
        },
        "power": {
            name: round(float((p_values <= level).mean()), 4)
            for name, level in (("single", _SINGLE), ("night", share), ("week", 7 * share))
        },
        "within_days": {
            str(days): round(float(1 - (1 - (p_values <= share).mean()) ** days), 4) for days in (1, 2, 3)
        },
        "decline": {
            "daily_loss": options.daily_loss,
            "reported_within_10_days": _share([day is not None for day in decline]),
            "median_days": float(np.median([_DAYS if day is None else day for day in decline])),
            "false_alarms_in_a_steady_month": _share([day is not None for day in steady]),
        },
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _pairs(bank: np.ndarray, users: int, generator: np.random.Generator) -> np.ndarray:
    """Draw users, [users, 2], from a bank of NDCG by candidate and champion."""
    drawn: np.ndarray = bank[generator.integers(0, len(bank), users)]
    return drawn


def _p_value(pairs: np.ndarray, settings: Settings) -> float:
    p_value = superiority_p_value(_evaluation(pairs, (CANDIDATE, CHAMPION), settings), settings)
    assert p_value is not None
    return p_value


def _month(
    bank: np.ndarray, night_users: int, hour_users: int, settings: Settings, seed: list[int]
) -> dict[Kind, np.ndarray]:
    """Return the p-values of a month's tests of candidates that are no better, by kind."""
    generator = np.random.Generator(np.random.SFC64(seed))
    return {
        "full": _p_values(bank, _DAYS, night_users, _HIGHEST["full"], settings, generator),
        "micro": _p_values(bank, _DAYS * 24, hour_users, _HIGHEST["micro"], settings, generator),
    }


def _p_values(
    bank: np.ndarray,
    tests: int,
    users: int,
    highest: float,
    settings: Settings,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return p-values [tests]; the t-test's above the highest level, where the whole test shows nothing."""
    swapped = np.concatenate([bank, bank[:, ::-1]])
    drawn = generator.integers(0, len(swapped), (tests, users), dtype=np.uint16)
    gains = (swapped[:, 0] - swapped[:, 1])[drawn]
    errors = gains.std(axis=1, ddof=1) / np.sqrt(users)
    p_values = np.asarray(stdtr(users - 1, -gains.mean(axis=1) / errors))
    for test in np.flatnonzero(p_values <= highest):
        p_values[test] = _p_value(swapped[drawn[test]], settings)
    return p_values


def _levels(kinds: Sequence[Kind], settings: Settings | None) -> list[tuple[Kind, int, float]]:
    """Return the tests of a month in their order, with the level of each if none before has shown a gain.

    Without settings each test is alone.
    """
    earlier: list[EarlierTest] = []
    levels: list[tuple[Kind, int, float]] = []
    for hour in range(_DAYS * 24):
        moment = _START + timedelta(hours=hour)
        for kind, number in (("micro", hour), ("full", hour // 24)):
            if kind not in kinds or (kind == "full" and moment.hour != _NIGHT):
                continue
            level = _SINGLE if settings is None else next_level(kind, moment, earlier, settings)
            assert level <= _HIGHEST[kind], "t-tests alone are no tests at this level"
            earlier.append(EarlierTest(kind, level, shown=False))
            levels.append((kind, number, level))
    return levels


def _false_months(
    months: list[dict[Kind, np.ndarray]], kinds: Sequence[Kind], settings: Settings | None
) -> dict[str, object]:
    """Return the share of months in which any test shows a gain."""
    levels = _levels(kinds, settings)
    shown = [any(month[kind][number] <= level for kind, number, level in levels) for month in months]
    expected = 1 - np.prod([1 - level for _, _, level in levels])
    return _share(shown) | {"expected": round(float(expected), 4)}


def _first_alert(
    bank: np.ndarray, users: int, settings: Settings, daily_loss: float, nights: int, seed: list[int]
) -> int | None:
    """Return the day on which monitoring reports a decline that began on day 0; None when it does not.

    The rule is that of `sql/upkeep/select_declines.sql`.
    """
    generator = np.random.default_rng(seed)
    compared: dict[int, list[Decline]] = {days: [] for days in settings.evaluation.earlier_champion_days}
    for night in range(1, nights + 1):
        for days, found in compared.items():
            pairs = bank[generator.integers(0, len(bank), users)]
            pairs = np.where(generator.random((users, 1)) < 0.5, pairs[:, ::-1], pairs)
            pairs = pairs * [1 - daily_loss * min(night, days), 1.0]
            both = _evaluation(pairs, (CHAMPION, earlier_name(days)), settings)
            found += declines(both, settings.evaluation)
            last = found[-5:]
            lost = -np.mean([each.difference for each in last]) / np.mean(
                [each.earlier_ndcg for each in last]
            )
            beyond_chance = sum(each.high < 0 for each in last)
            if beyond_chance >= 3 and lost > settings.alerts.champion_decline:
                return night
    return None


def _evaluation(pairs: np.ndarray, scorers: tuple[str, str], settings: Settings) -> Evaluation:
    """Return an evaluation with the NDCG [users, 2] of two scorers."""
    values = np.zeros((len(pairs), 2, len(metric_names(settings.evaluation.k))))
    values[:, :, 0] = pairs
    keys = np.arange(len(pairs)).astype(str).astype(object)
    result = SliceResult(keys, np.ones(len(pairs), dtype=np.int64), values)
    return Evaluation(settings.evaluation.k, scorers, {"all": result}, {}, {}, "1")


def _share(claims: list[bool]) -> dict[str, object]:
    return {"share": float(np.mean(claims)), "limits": rate_limits(sum(claims), len(claims))}


if __name__ == "__main__":
    main()
