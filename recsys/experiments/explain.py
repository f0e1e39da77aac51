"""Say in words how an experiment has ended."""

from collections.abc import Mapping
from typing import Any

from recsys.experiments.experiment import Experiment

_FINDINGS = {
    "challenger_better": "version {challenger} is better than the champion",
    "challenger_worse": "version {challenger} is worse than the champion",
    "guardrail_broken": "version {challenger} breaks a guardrail",
    "guardrail_not_shown": "version {challenger} is better, but a guardrail is not shown to be non-inferior",
    "no_difference_shown": "no difference is shown in the planned time",
    "challenger_preferred": "users prefer what version {challenger} picks; an experiment without "
    "--interleave can show that it is better",
    "champion_preferred": "users prefer what the champion picks to what version {challenger} does",
    "no_preference_shown": "no preference is shown in the planned time",
    "hardly_answered": "hardly anybody answered a list in the planned time, so no preference is shown",
    "slots_uneven": "the items of one version were shown more often, so users did not see the lists as they "
    "were interleaved; see which rules or filters of the application leave out its items",
    "arms_mixed": "users of both arms were shown the lists of the other one, so nothing is shown",
    "sample_ratio_mismatch": "users do not appear in the planned shares (p = {p_value:.1g}), so the log is "
    "broken and says nothing about the versions; see which slates are not logged",
}


def explain(
    experiment: Experiment,
    outcome: str,
    found: list[dict[str, Any]],
    users: Mapping[str, int],
    p_value: float,
) -> str:
    """Return why an experiment has ended, with its users and figures, as sentences.

    Parameters
    ----------
    found
        Readings as in the table `experiment_readouts`.
    users
        By arm.
    p_value
        Of the test whether users appear in the planned shares.
    """
    seen = ", ".join(
        f"{arm.replace('_', ' ')} {'fewer than 5' if 0 < number < 5 else f'{number:,}'}"
        for arm, number in users.items()
    )
    finding = _FINDINGS[outcome].format(challenger=experiment.challenger, p_value=p_value)
    figures = "; ".join(filter(None, map(_figure, found)))
    return f"{finding}. Users: {seen}." + (f" {figures}." if figures else "")


def _figure(reading: Mapping[str, Any]) -> str:
    if reading["difference"] is None or not reading["control"]:
        return ""
    name, control = reading["metric"].replace("_", "-"), abs(reading["control"])

    def change(value: float | None, unknown: str) -> str:
        return unknown if value is None else f"{value / control:+.1%}"

    return (
        f"{name} {change(reading['difference'], '')} ({change(reading['low'], 'open')} to "
        f"{change(reading['high'], 'open')}), {reading['verdict'].replace('_', ' ')}"
    )
