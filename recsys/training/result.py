"""The result of a training run."""

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from recsys.snapshot.reference import TrainedThrough

RESULT_FILE = "result.json"
HISTORY_FILE = "history.jsonl"
CHECKPOINT_FOLDER = "checkpoint"


@dataclass(frozen=True, config=ConfigDict(ser_json_inf_nan="constants"))
class TrainingResult:
    """Where a training run left its checkpoint, and how it went.

    Attributes
    ----------
    checkpoint, history
        Paths of the checkpoint folder and of the figures by epoch.
    seconds
        Wall-clock time of the whole run.
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


_RESULT = TypeAdapter(TrainingResult)


def read_result(folder: Path) -> TrainingResult | None:
    """Return the result of a finished run, None while it is not finished."""
    path = folder / RESULT_FILE
    return _RESULT.validate_json(path.read_bytes()) if path.is_file() else None


def write_result(folder: Path, result: TrainingResult) -> None:
    """Mark a run as finished."""
    temporary = folder / f"{RESULT_FILE}.tmp"
    temporary.write_bytes(_RESULT.dump_json(result, indent=2) + b"\n")
    temporary.replace(folder / RESULT_FILE)
