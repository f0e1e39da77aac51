"""The result of a training run."""

import logging
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from recsys.digests import folder_digest
from recsys.errors import CheckpointError
from recsys.snapshot.reference import TrainedThrough

RESULT_FILE = "result.json"
HISTORY_FILE = "history.jsonl"
CHECKPOINT_FOLDER = "checkpoint"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, config=ConfigDict(ser_json_inf_nan="constants"))
class TrainingResult:
    """Where a training run left its checkpoint, and how it went.

    Attributes
    ----------
    checkpoint, history
        Paths of the checkpoint folder and of the figures by epoch.
    seconds
        Wall-clock time of the whole run.
    checkpoint_digest
        Of all files of the checkpoint; None if an earlier release trained it.
    """

    checkpoint: str
    history: str
    kind: Literal["full", "micro"]
    snapshot_uri: str
    snapshot_digest: str
    trained_through: TrainedThrough
    epochs: int
    best_epoch: int
    seconds: float
    metrics: dict[str, float]
    stopped_because: str
    checkpoint_digest: str | None = None


_RESULT = TypeAdapter(TrainingResult)


def read_result(folder: Path) -> TrainingResult | None:
    """Return the result of a finished run, None while it is not finished."""
    path = folder / RESULT_FILE
    return _RESULT.validate_json(path.read_bytes()) if path.is_file() else None


def verify_checkpoint(result: TrainingResult) -> None:
    """Raise CheckpointError if the checkpoint is not what training wrote, as after a full disk."""
    if result.checkpoint_digest is None:
        return
    found = folder_digest(Path(result.checkpoint))
    if found != result.checkpoint_digest:
        raise CheckpointError(
            f"the checkpoint {result.checkpoint} is damaged: its digest is {found[:16]}..., training wrote "
            f"{result.checkpoint_digest[:16]}...; clear the task that trained it, so that it trains again"
        )


def finished_result(folder: Path, snapshot_uri: str) -> TrainingResult | None:
    """Return the result of a finished run on a snapshot; None if it has to train, also anew."""
    result = read_result(folder)
    if result is None or result.snapshot_uri != snapshot_uri:
        return None
    try:
        verify_checkpoint(result)
    except CheckpointError as damage:
        _log.warning("%s", damage)
        return None
    return result


def write_result(folder: Path, result: TrainingResult) -> None:
    """Mark a run as finished."""
    temporary = folder / f"{RESULT_FILE}.tmp"
    temporary.write_bytes(_RESULT.dump_json(result, indent=2) + b"\n")
    temporary.replace(folder / RESULT_FILE)
