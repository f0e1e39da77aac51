"""References that stages hand to each other; plain dicts in XCom."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from recsys.errors import SnapshotError

SnapshotKind = Literal["full", "micro", "reservoir", "learned"]
"""The last two are reservoirs of events that micro-updates replay: no run trains on them alone."""


@dataclass(frozen=True)
class TrainedThrough:
    """What a model has trained on: valid feedback below both bounds (exclusive)."""

    transaction_id: int
    occurred_before: datetime

    def __post_init__(self) -> None:
        if self.occurred_before.tzinfo is None:
            raise SnapshotError(f"trained_through needs a time with a zone, got {self.occurred_before}")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "transaction_id": self.transaction_id,
            "occurred_before": self.occurred_before.astimezone(UTC).isoformat(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainedThrough":
        """Read what `to_dict` wrote."""
        return cls(int(values["transaction_id"]), datetime.fromisoformat(values["occurred_before"]))


@dataclass(frozen=True)
class SnapshotRef:
    """Where a snapshot lies and what it must contain."""

    uri: str
    digest: str
    kind: SnapshotKind
    rows: int
    window_id: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "uri": self.uri,
            "digest": self.digest,
            "kind": self.kind,
            "rows": self.rows,
            "window_id": self.window_id,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SnapshotRef":
        """Read what `to_dict` wrote."""
        if values["kind"] not in ("full", "micro"):
            raise SnapshotError(f"a snapshot to train on is full or micro, not {values['kind']!r}")
        return cls(
            str(values["uri"]),
            str(values["digest"]),
            values["kind"],
            int(values["rows"]),
            int(values["window_id"]),
        )
