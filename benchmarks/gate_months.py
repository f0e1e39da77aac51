"""Measure the gate's false claims over whole months of nights and hours, and what the correction costs.

    python -m benchmarks.gate_months --json F

Users with known preferences are fitted on real ratings, as in `benchmarks.gate`. Per-user NDCG@10 of pairs of
equally good models is drawn once for many users. Each test draws users from it and swaps the two models of a
user by chance, so that the true difference is exactly 0. A month has 30 nights and 720 hours; every gate
makes the test of `recsys.promotion.superiority` and spends from the month's probability of error.

`false_months` is the share of months in which any candidate was called better than the champion: with the
month's probability shared by the nights alone (the default), by nights and hours, and without sharing.
`false_night_months` is the first of these over more months.
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
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.gate import noise_of_a_better_model, per_user_ndcg, rate_limits, simulated_world
from recsys.evaluation.earlier import Decline, declines, earlier_name
from recsys.evaluation.ranking.metrics import metric_names
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation, SliceResult
from recsys.promotion.superiority import EarlierTest, Kind, Superiority, next_level, superiority_p_value
from recsys.settings import EvaluationSettings, GateSettings, Settings

_START = datetime(2026, 4, 1, tzinfo=UTC)
_DAYS, _NIGHT = 30, 3
_BANK_USERS = 20_000
_SINGLE = 0.025

Draw = Callable[[np.random.Generator], float]
"""Makes one test and returns its p-value."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the months and print the rates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_months")
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument(
        "--night-months", type=int, default=2_000, help="months of which only nights are drawn"
    )
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
    night, hour = (
        _drawn(alike, users, settings, swapped=True) for users in (options.users, options.hour_users)
    )
    months = [
        _month(night, hour, np.random.default_rng([options.seed, 2, number]))
        for number in range(options.months)
    ]
    nights = [
        _nights(night, np.random.default_rng([options.seed, 5, number]))
        for number in range(options.night_months)
    ]
    gain = _drawn(better, options.users, settings, swapped=False)
    p_values = np.array([gain(generator) for _ in range(max(1_000, options.months))])
    share = settings.gate.monthly_error / _DAYS
    decline = [
        _first_alert(alike, options.users, settings, options.daily_loss, 10, [options.seed, 3, number])
        for number in range(options.months)
    ]
    steady = [
        _first_alert(alike, options.users, settings, 0.0, _DAYS, [options.seed, 4, number])
        for number in range(options.months)
    ]
    figures = {
        "months": options.months,
        "users": options.users,
        "hour_users": options.hour_users,
        "resamples": options.resamples,
        "true_gain": round(float(better[:, 0].mean() / better[:, 1].mean() - 1), 4),
        "false_months": {
            name: _share([_is_false(month, chosen) for month in months])
            for name, chosen in (("nights", settings), ("nights_and_hours", with_hours), ("not_shared", None))
        },
        "false_night_months": _share([_is_false(month, settings) for month in nights]),
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


def _drawn(bank: np.ndarray, users: int, settings: Settings, *, swapped: bool) -> Draw:
    """Return a test on users drawn from a bank [users, 2] of NDCG by candidate and champion."""

    def draw(generator: np.random.Generator) -> float:
        pairs = bank[generator.integers(0, len(bank), users)]
        if swapped:
            pairs = np.where(generator.random((users, 1)) < 0.5, pairs[:, ::-1], pairs)
        evaluation = _evaluation(pairs, (CANDIDATE, CHAMPION), settings)
        p_value = superiority_p_value(evaluation, settings)
        assert p_value is not None
        return p_value

    return draw


def _month(night: Draw, hour: Draw, generator: np.random.Generator) -> list[tuple[Kind, datetime, float]]:
    tests: list[tuple[Kind, datetime, float]] = []
    for number in range(_DAYS * 24):
        moment = _START + timedelta(hours=number)
        tests.append(("micro", moment, hour(generator)))
        if moment.hour == _NIGHT:
            tests.append(("full", moment, night(generator)))
    return tests


def _nights(night: Draw, generator: np.random.Generator) -> list[tuple[Kind, datetime, float]]:
    first = _START + timedelta(hours=_NIGHT)
    return [("full", first + timedelta(days=day), night(generator)) for day in range(_DAYS)]


def _is_false(month: list[tuple[Kind, datetime, float]], settings: Settings | None) -> bool:
    """Return whether any test of the month shows a gain; without settings each test is alone."""
    earlier: list[EarlierTest] = []
    for kind, moment, p_value in month:
        if settings is None:
            found = Superiority(p_value, _SINGLE)
        elif kind == "micro" and "better_than_champion" not in settings.gate.on_inconclusive:
            continue
        else:
            found = Superiority(p_value, next_level(kind, moment, earlier, settings))
            earlier.append(EarlierTest(kind, found.level, found.shown))
        if found.shown:
            return True
    return False


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
