"""What a training run hands on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys.snapshot.reference import TrainedThrough

RESULT_FILE = "result.json"
HISTORY_FILE = "history.jsonl"
CHECKPOINT_FOLDER = "checkpoint"


@dataclass(frozen=True)
class TrainingResult:
    """Where the checkpoint lies and how it came about; plain values, ready for XCom and MLflow."""

    checkpoint: str
    history: str
    kind: str
    snapshot_uri: str
    snapshot_digest: str
    trained_through: TrainedThrough
    epochs: int
    best_epoch: int
    seconds: float
    metrics: dict[str, float]
    stopped_because: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return asdict(self) | {"trained_through": self.trained_through.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingResult":
        """Read what `to_dict` wrote."""
        return cls(**values | {"trained_through": TrainedThrough.from_dict(values["trained_through"])})

    def epoch_history(self) -> list[dict[str, float]]:
        """Return the losses, validation metric, learning rate and seconds of each epoch."""
        return [json.loads(line) for line in Path(self.history).read_text().splitlines()]


def read_result(folder: Path) -> TrainingResult | None:
    """Return the result of a finished run, None while it is not finished."""
    path = folder / RESULT_FILE
    return TrainingResult.from_dict(json.loads(path.read_text())) if path.is_file() else None


def write_result(folder: Path, result: TrainingResult) -> None:
    """Mark a run as finished."""
    temporary = folder / f"{RESULT_FILE}.tmp"
    temporary.write_text(json.dumps(result.to_dict(), indent=2) + "\n")
    temporary.replace(folder / RESULT_FILE)
