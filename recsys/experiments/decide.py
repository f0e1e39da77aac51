"""What a look at an experiment says: verdict by metric, and whether the experiment ends.

Success metrics share the error rate of a false success, because one of them is enough. Guardrails must all
be non-inferior, so their number does not raise it; it lowers the power, and more users make up for that
(Schultzberg, Ankargren and Frånberg, "Risk-aware product decisions in A/B tests with multiple metrics",
2024).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.experiments.bounds import Bounds
from recsys.experiments.effects import Effect

ALPHA = 0.025
"""Chance of a false success over the whole experiment, and of a guardrail wrongly called non-inferior."""
ALPHA_HARM = 0.01
"""Chance that any metric is wrongly called worse, over the whole experiment."""

Role = Literal["success", "guardrail"]
Verdict = Literal["better", "not_worse", "worse", "open"]
Outcome = Literal[
    "running", "challenger_better", "challenger_worse", "guardrail_broken", "guardrail_not_shown",
    "no_difference_shown",
]  # fmt: skip


@dataclass(frozen=True)
class Aims:
    """What an experiment is about.

    Attributes
    ----------
    success
        Names of metrics; the challenger wins when it is shown to be better on one of them.
    guardrails
        Margins by name of metric: the largest loss to exclude, a share of the control's value.
    """

    success: tuple[str, ...]
    guardrails: Mapping[str, float]

    @property
    def metrics(self) -> list[tuple[str, Role]]:
        """All metrics with their roles."""
        return [
            *((name, "success") for name in self.success),
            *((name, "guardrail") for name in self.guardrails),
        ]


@dataclass(frozen=True)
class Reading:
    """A metric at one look.

    Attributes
    ----------
    low, high
        Interval of the difference. It holds at all looks together, with different error rates at its ends:
        `ALPHA` where the challenger would be better, `ALPHA_HARM` where it would be worse.
    """

    effect: Effect
    role: Role
    margin: float
    low: float
    high: float
    verdict: Verdict


class MetricReader:
    """Reads a metric at consecutive looks. It is given every look, also those that were read before.

    Parameters
    ----------
    aims
        Of the experiment.
    metric, role
        One of `aims.metrics`.
    """

    def __init__(self, aims: Aims, metric: str, role: Role) -> None:
        self._role = role
        self._margin = aims.guardrails[metric] if role == "guardrail" else 0.0
        self._gain = Bounds(ALPHA / len(aims.success) if role == "success" else ALPHA)
        self._harm = Bounds(ALPHA_HARM / len(aims.metrics))

    def pass_over(self, share: float, information: float) -> None:
        """Take note of a look that was read before: share of the planned time, and information then."""
        self._gain.look(share, information)
        self._harm.look(share, information)

    def read(self, effect: Effect, share: float) -> Reading:
        """Return what the metric says now, when a share of the planned time has passed."""
        gain_bound, harm_bound = (b.look(share, effect.information) for b in (self._gain, self._harm))
        better, error = effect.metric.better, effect.standard_error
        if effect.information <= 0:
            return Reading(effect, self._role, self._margin, float("-inf"), float("inf"), "open")
        gain = better * effect.difference
        # Without an error the difference is known, whatever the bounds.
        low = gain - gain_bound * error if error > 0 else gain
        high = gain + harm_bound * error if error > 0 else gain
        allowed = self._margin * abs(effect.control)
        verdict: Verdict = "open"
        if high < -allowed:
            verdict = "worse"
        elif self._role == "success" and low > 0:
            verdict = "better"
        elif self._role == "guardrail" and low >= -allowed:
            verdict = "not_worse"
        if better < 0:
            low, high = -high, -low
        return Reading(effect, self._role, self._margin, low, high, verdict)


def conclude(readings: Sequence[Reading], share: float) -> Outcome:
    """Return whether the experiment ends, and how."""
    worse = [reading.role for reading in readings if reading.verdict == "worse"]
    if worse:
        return "guardrail_broken" if "guardrail" in worse else "challenger_worse"
    better = any(reading.verdict == "better" for reading in readings)
    safe = all(reading.verdict == "not_worse" for reading in readings if reading.role == "guardrail")
    if better and safe:
        return "challenger_better"
    if share < 1:
        return "running"
    return "guardrail_not_shown" if better else "no_difference_shown"
