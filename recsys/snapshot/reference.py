"""References to snapshots, small enough to pass between tasks."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, PlainSerializer
from pydantic.dataclasses import dataclass

from recsys.errors import SnapshotError

SnapshotKind = Literal["full", "micro", "reservoir", "learned"]
"""The last two are reservoirs of events that micro-updates replay; no run trains on them alone."""


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise SnapshotError(f"trained_through needs a time with a zone, got {time}")
    return time.astimezone(UTC)


@dataclass(frozen=True)
class TrainedThrough:
    """What a model has trained on: valid feedback below both bounds (exclusive)."""

    transaction_id: int
    occurred_before: Annotated[
        datetime,
        AfterValidator(_in_utc),
        # The digests of manifests cover this text, so its form must not change.
        PlainSerializer(datetime.isoformat, when_used="json"),
    ]


@dataclass(frozen=True)
class SnapshotRef:
    """Where a snapshot lies and what it must contain."""

    uri: str
    digest: str
    kind: SnapshotKind
    rows: int
    window_id: int
