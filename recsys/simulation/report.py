"""Report of a simulation: the reward per day of each policy, as figures and as a plot."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.bootstrap import bootstrap_means
from recsys.simulation.candidates import Candidate, Decisions, count_decisions
from recsys.simulation.loop import Simulated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RESAMPLES = 4_000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Reward:
    """Expected clicks per slate with a 95 % bootstrap interval over users; None if there were no slates."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PolicyReport:
    """Rewards and training outcomes of one policy.

    Attributes
    ----------
    days
        Reward per day.
    later
        Reward of all days after the first; on the first day all policies have the same model.
    gain
        `later` minus that of the first policy, on the same users; None for the first policy.
    clicks
        [days] number of observed clicks.
    nights, hours
        Number of training runs by outcome.
    candidates
        Of the nights, with what was decided and their true values.
    decisions
        How often that was right; None without candidates.
    """

    days: tuple[Reward, ...]
    later: Reward
    gain: Reward | None
    clicks: tuple[int, ...]
    nights: dict[str, int]
    hours: dict[str, int]
    candidates: tuple[Candidate, ...]
    decisions: Decisions | None


def report(simulated: Simulated) -> dict[str, PolicyReport]:
    """Return a report per policy, by name."""
    branches = list(simulated.branches.values())
    rewards = np.stack([branch.rewards for branch in branches], axis=2)  # [days, users, policies]
    days = [_ratios(rewards[day], simulated.slates[day]) for day in range(len(rewards))]
    # A simulation of one day has no later days.
    first = 1 if len(rewards) > 1 else 0
    later = _ratios(rewards[first:].sum(axis=0), simulated.slates[first:].sum(axis=0))
    reports = {}
    for number, branch in enumerate(branches):
        reports[branch.policy.name] = PolicyReport(
            days=tuple(_reward(*ratios, number) for ratios in days),
            later=_reward(*later, number),
            gain=None if number == 0 else _reward(*later, number, less=0),
            clicks=tuple(branch.clicks.tolist()),
            nights=_count([outcome.action for outcome in branch.nights]),
            hours=_count([outcome.action for outcome in branch.hours]),
            candidates=tuple(branch.candidates),
            decisions=count_decisions(branch.candidates) if branch.candidates else None,
        )
    return reports


def to_json(reports: dict[str, PolicyReport], settings: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON-ready dict."""
    return {
        "settings": settings,
        "reward": "expected clicks per slate",
        "policies": {name: asdict(each) for name, each in reports.items()},
    }


def plot(reports: dict[str, PolicyReport]) -> "Figure":
    """Plot reward over days: a line with its interval per policy."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    picture = Figure(figsize=(8, 4.5), layout="constrained")
    axes = picture.subplots()
    for number, (name, each) in enumerate(reports.items()):
        rewards = np.array([[r.value, r.low, r.high] for r in each.days], dtype=np.float64)
        days, colour = np.arange(1, len(rewards) + 1), f"C{number}"
        axes.plot(days, rewards[:, 0], "o-", color=colour, label=name)
        axes.fill_between(days, rewards[:, 1], rewards[:, 2], color=colour, alpha=0.12)
    axes.set(xlabel="day", ylabel="expected clicks per slate", title="Reward per day")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return picture


def _ratios(
    rewards: NDArray[np.float64], slates: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean rewards per slate [policies], and the same for resampled users [resamples, policies].

    Parameters
    ----------
    rewards
        [users, policies]
    slates
        [users]
    """
    values = np.column_stack([rewards, slates.astype(np.float64)])
    if slates.sum() == 0:
        nothing = np.full((1, rewards.shape[1]), np.nan)
        return nothing[0], nothing
    means = bootstrap_means(values, _RESAMPLES)
    mean = values.mean(axis=0)
    return mean[:-1] / mean[-1], means[:, :-1] / np.maximum(means[:, -1:], 1e-12)


def _reward(
    value: NDArray[np.float64], resampled: NDArray[np.float64], number: int, less: int | None = None
) -> Reward:
    found, others = value[number], resampled[:, number]
    if less is not None:
        found, others = found - value[less], others - resampled[:, less]
    if np.isnan(found):
        return Reward(None, None, None)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(others, [tail, 1 - tail])
    return Reward(float(found), float(low), float(high))


def share_interval(part: int, whole: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of nights (Clopper and Pearson, 1934)."""
    from scipy.stats import beta

    tail = (1 - _CONFIDENCE) / 2
    low = beta.ppf(tail, part, whole - part + 1) if part else 0.0
    high = beta.ppf(1 - tail, part + 1, whole - part) if part < whole else 1.0
    return float(low), float(high)


def _count(actions: list[str]) -> dict[str, int]:
    return {action: actions.count(action) for action in sorted(set(actions))}
