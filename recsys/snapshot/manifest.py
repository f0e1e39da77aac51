"""The manifest of a snapshot. It is written last, so a folder with a manifest is complete."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from pydantic_core import to_jsonable_python

from recsys.errors import SnapshotError
from recsys.snapshot.reference import SnapshotKind, TrainedThrough

MANIFEST_NAME = "manifest.json"
ITEMS_FILE = "items.parquet"
EVENT_TYPES_FILE = "event_types.parquet"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of a snapshot; `path` is relative to its folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a snapshot contains and what a model trained on it knows.

    Attributes
    ----------
    window
        window_id, consumer, run_key, lower_transaction_id and upper_transaction_id.
    as_of
        The snapshot contains what was known at this moment.
    held_out_from
        Events from this time on are for evaluation only; in a micro snapshot, fresh events.
    trained_through
        What a model knows after training on this snapshot.
    parent
        Micro snapshots: what the parent model has trained on.
    rows_by_purpose
        Number of events for each `recsys.columns.Purpose` that occurs.
    erased_from
        Digests before users were erased from the files; empty if none was.
    """

    kind: SnapshotKind
    window: Mapping[str, Any]
    as_of: datetime
    held_out_from: datetime
    trained_through: TrainedThrough
    parent: TrainedThrough | None
    rows: int
    held_out_rows: int
    rows_by_purpose: Mapping[str, int]
    users: int
    items: int
    files: tuple[FileEntry, ...]
    erased_from: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def window_id(self) -> int:
        """Window of the snapshot."""
        return int(self.window["window_id"])

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which includes the files' digests, without `erased_from`."""
        core = replace(self, erased_from=())._to_dict()
        return sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the content of `manifest.json`."""
        return json.dumps({"digest": self.digest, **self._to_dict()}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, uri: str) -> "Manifest":
        """Read `manifest.json`; raise SnapshotError if it is damaged or has another format."""
        try:
            values = json.loads(text)
            version = values["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(uri, error) from error
        if version != FORMAT_VERSION:
            raise SnapshotError(
                f"{uri} has snapshot format {version}, this version of recsys reads {FORMAT_VERSION}; "
                "take the snapshot again"
            )
        try:
            claimed = values.pop("digest")
            values["as_of"] = datetime.fromisoformat(values["as_of"])
            values["held_out_from"] = datetime.fromisoformat(values["held_out_from"])
            values["trained_through"] = TrainedThrough(**values["trained_through"])
            values["parent"] = TrainedThrough(**values["parent"]) if values["parent"] else None
            values["files"] = tuple(FileEntry(**entry) for entry in values["files"])
            values["erased_from"] = tuple(values["erased_from"])
            manifest = cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(uri, error) from error
        if manifest.digest != claimed:
            raise SnapshotError(f"the manifest of {uri} was changed: its digest does not match its content")
        return manifest

    def _to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values["as_of"] = self.as_of.isoformat()
        values["held_out_from"] = self.held_out_from.isoformat()
        values["trained_through"] = to_jsonable_python(self.trained_through)
        values["parent"] = to_jsonable_python(self.parent)
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]


def _damaged(uri: str, error: Exception) -> SnapshotError:
    return SnapshotError(f"{uri}/{MANIFEST_NAME} is damaged: {error!r}; take the snapshot again")
