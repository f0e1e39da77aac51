"""What a search of settings varies, and between which values.

What somebody has set in the environment stays as it is, in a search and after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys.settings import Settings

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values = dict[str, int | float]
"""Values of settings by name: `training.learning_rate`."""


@dataclass(frozen=True)
class Range:
    """Every number between two, by its logarithm or by itself."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[int, ...]


SPACE: dict[str, Range | Choice] = {
    "training.learning_rate": Range(3e-4, 3e-3, log=True),
    "model.dropout": Range(0.1, 0.6),
    "model.dim": Choice((64, 128, 256)),
    "model.layers": Choice((1, 2, 3)),
    "model.max_events": Choice((50, 100, 200)),
}


def is_set(settings: Settings, name: str) -> bool:
    """Return whether somebody has set this setting, so that it has not its default."""
    section, field = name.split(".")
    return section in settings.model_fields_set and field in getattr(settings, section).model_fields_set


def varied(settings: Settings) -> list[str]:
    """Return the names of what a search varies: what nobody has set."""
    return [name for name in SPACE if not is_set(settings, name)]


def values_of(settings: Settings, names: list[str]) -> Values:
    """Return the values of some settings."""
    found: Values = {}
    for name in names:
        section, field = name.split(".")
        found[name] = getattr(getattr(settings, section), field)
    return found


def with_values(settings: Settings, values: Mapping[str, int | float]) -> Settings:
    """Return the settings with other values; raise pydantic.ValidationError when one is not allowed."""
    changed: dict[str, object] = {}
    for section in sorted({name.split(".")[0] for name in values}):
        own = {name.split(".")[1]: value for name, value in values.items() if name.startswith(f"{section}.")}
        present = getattr(settings, section)
        changed[section] = type(present)(**(present.model_dump() | own))
    return settings.model_copy(update=changed)


def distributions(settings: Settings, present: Values) -> dict[str, BaseDistribution]:
    """Return what Optuna draws each of the present settings from; it includes the present value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, BaseDistribution] = {}
    for name, value in present.items():
        space = SPACE[name]
        if isinstance(space, Range):
            low, high = min(space.low, value), max(space.high, value)
            found[name] = FloatDistribution(low, high, log=space.log and low > 0)
        else:
            choices = {choice for choice in space.values if fits(settings, name, choice)}
            found[name] = CategoricalDistribution(sorted(choices | {int(value)}))
    return found


def fits(settings: Settings, name: str, value: int | float) -> bool:
    """Return whether a value goes with the other settings: the width is a multiple of the heads."""
    return name != "model.dim" or value % settings.model.heads == 0
