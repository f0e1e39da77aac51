"""Settings of validation: the limits of each expectation."""

import math
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from recsys.settings.section import YEAR_MINUTES, Section


def _below(limit: float | None, meaning: str) -> Any:
    return Field(limit, description=f"{meaning} below this; -inf: never")


def _above(limit: float | None, meaning: str) -> Any:
    return Field(limit, description=f"{meaning} above this; inf: never")


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # reported by pydantic


class Bounds(Section):
    """Limits at which an expectation on a window warns and at which it fails the run."""

    model_config = ConfigDict(allow_inf_nan=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_written_as_infinite(cls, limit: Any) -> Any:
        if isinstance(limit, str) and "inf" not in limit.lower() and math.isinf(_float(limit)):
            raise ValueError("is too large; inf or -inf means never")
        return limit

    @field_validator("*")
    @classmethod
    def _infinite_is_never(cls, limit: float | None) -> float | None:
        # An environment variable can say "inf" but not None.
        if limit is not None and math.isnan(limit):
            raise ValueError("must be a number, or inf or -inf for never")
        return None if limit is None or math.isinf(limit) else limit

    def limits(self, severity: Literal["warn", "fail"]) -> tuple[float | None, float | None]:
        """Return the lowest and the highest value that passes at this severity; None: any."""
        values = self.model_dump()
        return values.get(f"{severity}_min"), values.get(f"{severity}_max")


class LowerBounds(Bounds):
    """Limits of a figure of which only a small value is bad."""

    warn_min: float | None
    fail_min: float | None


class UpperBounds(Bounds):
    """Limits of a figure of which only a large value is bad."""

    warn_max: float | None
    fail_max: float | None


class ValidShareBounds(LowerBounds):
    """Share of the window's rows that break no rule, 0 to 1."""

    warn_min: float | None = _below(0.9, "warn when the share of rows that break no rule is")
    fail_min: float | None = _below(0.5, "fail when the share of rows that break no rule is")


class SlateValidShareBounds(LowerBounds):
    """Share of the window's slates that break no rule, 0 to 1."""

    warn_min: float | None = _below(0.9, "warn when the share of slates that break no rule is")
    fail_min: float | None = _below(None, "fail when the share of slates that break no rule is")


class VolumeBounds(Bounds):
    """Rows that arrived, divided by the median at the same hour of earlier weeks."""

    warn_min: float | None = _below(0.5, "warn when the ratio of rows to the usual number is")
    warn_max: float | None = _above(2.0, "warn when the ratio of rows to the usual number is")
    fail_min: float | None = _below(0.1, "fail when the ratio of rows to the usual number is")
    fail_max: float | None = _above(10.0, "fail when the ratio of rows to the usual number is")


class FreshnessBounds(UpperBounds):
    """Age of the newest event when the window was opened, in hours."""

    warn_max: float | None = _above(24.0, "warn when the newest event's age in hours is")
    fail_max: float | None = _above(None, "fail when the newest event's age in hours is")


class NullRateBounds(UpperBounds):
    """Rise of the share of nulls in a column over earlier windows, -1 to 1, for the same event types."""

    warn_max: float | None = _above(0.1, "warn when the rise of the share of nulls in a column is")
    fail_max: float | None = _above(0.5, "fail when the rise of the share of nulls in a column is")


class DriftBounds(UpperBounds):
    """Population stability index (PSI) against earlier windows; by convention 0.1 is small, 0.25 large."""

    warn_max: float | None = _above(0.25, "warn when the population stability index is")
    fail_max: float | None = _above(1.0, "fail when the population stability index is")


class PlacementMixBounds(UpperBounds):
    """Population stability index (PSI) of the placements of slates against earlier windows."""

    warn_max: float | None = _above(0.25, "warn when the population stability index is")
    fail_max: float | None = _above(None, "fail when the population stability index is")


class CoverageBounds(LowerBounds):
    """Share of the possible items or users that occur, divided by earlier windows' median."""

    warn_min: float | None = _below(0.5, "warn when the ratio of coverage to the usual coverage is")
    fail_min: float | None = _below(0.1, "fail when the ratio of coverage to the usual coverage is")


class ValidationSettings(Section):
    """Limits of the row rules and the table expectations."""

    max_comment_length: int = Field(
        10_000, ge=1, description="longest comment that is not quarantined, in characters"
    )
    future_tolerance_minutes: int = Field(
        10, ge=0, le=YEAR_MINUTES, description="how far an application's clock may be ahead, in minutes"
    )
    max_events_per_minute: int = Field(
        600, ge=1, description="most events of one user in a minute; more are taken for a bot"
    )
    noisy_feedback: Literal["quarantine", "down_weight"] = Field(
        "quarantine",
        description="contradictory and bot-like feedback: quarantine it, or give its users a lower weight",
    )
    newcomer_days: int = Field(
        7,
        ge=1,
        description="days from a user's first event in which the user may be an account made to push items",
    )
    push_evidence: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="evidence that new users push an item together: how unlikely it is that so many react "
        "alike and that they come so fast, as the sum of two negative natural logarithms; each must be at "
        "least a third of it; 1e9: never",
    )
    min_noisy_weight: float = Field(
        0.1, ge=0, le=1, description="weight of a user's feedback with down_weight when all of it is noise"
    )
    min_rows: int = Field(
        1_000,
        ge=1,
        description="fewest rows in a window with which nulls, distributions and coverage are compared",
    )
    valid_share: ValidShareBounds = ValidShareBounds()
    volume: VolumeBounds = VolumeBounds()
    freshness_hours: FreshnessBounds = FreshnessBounds()
    null_rate: NullRateBounds = NullRateBounds()
    event_mix: DriftBounds = DriftBounds()
    rating_distribution: DriftBounds = DriftBounds()
    item_coverage: CoverageBounds = CoverageBounds()
    user_coverage: CoverageBounds = CoverageBounds()
    slate_valid_share: SlateValidShareBounds = SlateValidShareBounds()
    placement_mix: PlacementMixBounds = PlacementMixBounds()
