"""Error rates over time: how much evidence a claim that a candidate is better must bring.

Every night makes a new test. At 5 % each, a month of candidates that are no better would bring one or two
that look better. So the nights of a month share one probability of error, `gate.monthly_error`. It accrues
evenly: by the d-th of D days, d / D of it. A test spends what has accrued and is left, and a test that shows
its candidate better gives back what it spent. That is the online fallback procedure (Tian and Ramdas, "Online
control of the familywise error rate", 2021; Wiens and Dmitrienko, 2005): whatever the tests depend on, the
chance of any false claim in a month is at most `gate.monthly_error`.

An hourly update claims nothing: it is promoted because it has learned newer feedback and is not shown to be
worse. It is tested, and a fifth of the probability is set aside for hours, only where settings hold updates
that are not shown to be better.
"""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from scipy.special import stdtr

from recsys.evaluation.ranking.metrics import ndcg_name
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.settings import Settings

Kind = Literal["full", "micro"]

CHECK = "better_than_champion"
_HOURS_SHARE = 0.2
_FEWEST_RESAMPLES = 10
"""Resamples without a gain from which the bootstrap's p-value is used; fewer do not resolve it."""


@dataclass(frozen=True)
class Superiority:
    """The test whether a candidate is better than the champion.

    Attributes
    ----------
    p_value
        One-sided: chance of at least this gain if the candidate is no better.
    level
        Largest p-value that shows a gain; 0 when nothing may be claimed.
    """

    p_value: float
    level: float

    @property
    def shown(self) -> bool:
        """Whether the candidate is shown to be better."""
        return self.level > 0 and self.p_value <= self.level


@dataclass(frozen=True)
class EarlierTest:
    """A test of the same month, from table `superiority_tests`."""

    kind: Kind
    level: float
    shown: bool


def month_of(now: datetime) -> datetime:
    """Return the start of the month in UTC, over which the probability of error is shared."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def claims_superiority(kind: Kind, settings: Settings) -> bool:
    """Return whether a gate of this kind tests for superiority; see the module."""
    if kind == "full":
        return True
    return settings.gate.on_inconclusive.get(CHECK, "ignore") != "ignore"


def next_level(kind: Kind, now: datetime, month: Sequence[EarlierTest], settings: Settings) -> float:
    """Return the level of the next test.

    Parameters
    ----------
    month
        Earlier tests of the same month, of both kinds.
    """
    total = settings.gate.monthly_error
    share = 1.0
    if claims_superiority("micro", settings):
        share = _HOURS_SHARE if kind == "micro" else 1 - _HOURS_SHARE
    lost = [test for test in month if not test.shown]
    spent = sum(test.level for test in lost if test.kind == kind)
    accrued = total * share * _elapsed(kind, now.astimezone(UTC))
    return max(0.0, min(accrued - spent, total - sum(test.level for test in lost)))


def _elapsed(kind: Kind, now: datetime) -> float:
    """Return the share of the month up to the end of this day, or of this hour for updates."""
    days = calendar.monthrange(now.year, now.month)[1]
    return now.day / days if kind == "full" else (now.day - 1 + (now.hour + 1) / 24) / days


def superiority_p_value(evaluation: Evaluation, settings: Settings) -> float | None:
    """Return the one-sided p-value of the gain in NDCG@k; None when there is nothing to test.

    It is the larger of the paired bootstrap's and of a paired t-test's. Where the bootstrap has too few
    resamples to resolve it, it is the t-test's.
    """
    gate = settings.gate
    scorers = {CANDIDATE, CHAMPION}
    if evaluation.impossible is not None or not scorers <= set(evaluation.scorers):
        return None
    if scorers & set(evaluation.failures) or evaluation.users < gate.min_evaluated_users:
        return None
    metric = ndcg_name(evaluation.k)
    gains = evaluation.per_user(CANDIDATE, metric) - evaluation.per_user(CHAMPION, metric)
    if not np.isfinite(gains).all():
        return None
    gain, error = float(gains.mean()), float(gains.std(ddof=1)) / np.sqrt(len(gains))
    if not error > 0:
        return 0.0 if gain > 0 else 1.0
    t_test = float(stdtr(len(gains) - 1, -gain / error))
    interval = evaluation.compare(CANDIDATE, CHAMPION, metric, settings.evaluation)
    bootstrap = interval.p_value / 2 if gain > 0 else 1 - interval.p_value / 2
    resolved = bootstrap * (settings.evaluation.bootstrap_resamples + 1) >= _FEWEST_RESAMPLES
    return max(t_test, bootstrap) if resolved else t_test
