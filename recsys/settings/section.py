"""What the sections of the settings share."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

# Settings reach Postgres as integers of 32 bits.
MAX_INTEGER = 2**31 - 1
# Postgres and Python have no dates for much longer times.
YEAR_MINUTES, YEAR_HOURS, CENTURY_DAYS, CENTURY_MONTHS = 525_600, 8_760, 36_500, 1_200


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _is_not_huge(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise ValueError(f"must be from -{MAX_INTEGER} to {MAX_INTEGER}")
        return value
