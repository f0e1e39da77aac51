"""A training run as a file: all that the training process needs to know."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from recsys.errors import ConfigurationError
from recsys.settings import (
    EvaluationSettings,
    MicroUpdateSettings,
    ModelSettings,
    Settings,
    TrainingSettings,
)
from recsys.snapshot.reference import SnapshotRef

JOB_FILE = "job.json"
TUNED_SETTINGS = "tuned_settings"
"""Entry of a checkpoint's manifest: those of its settings that come from a search of settings."""


def run_folder(runs: Path, kind: str, run_key: str) -> Path:
    """Return the folder of a training run, the same for every attempt.

    Parameters
    ----------
    runs
        `Settings.runs`.
    """
    return runs / kind / sha256(run_key.encode()).hexdigest()[:16]


class TrainingJob(BaseModel):
    """What to train, on what, and where the results go.

    Attributes
    ----------
    kind
        `full` starts from the pre-trained text encoder, `micro` from `parent`.
    snapshot
        What to train on; its digest is compared before it is read.
    output
        Folder of the run.
    runs
        Folder of all runs, which share a cache of encoded texts.
    parent
        Checkpoint that a micro-update starts from.
    tuned
        Those of the settings that come from a search of settings; the checkpoint names them.
    unseen_share
        Share of the users whom a full fine-tune does not validate on, see `are_unseen`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["full", "micro"]
    snapshot: SnapshotRef
    output: Path
    runs: Path
    parent: Path | None = None
    tuned: dict[str, int | float] = {}
    unseen_share: float = 0.0
    model: ModelSettings
    training: TrainingSettings
    micro_update: MicroUpdateSettings
    evaluation: EvaluationSettings

    @classmethod
    def of(
        cls,
        settings: Settings,
        kind: Literal["full", "micro"],
        snapshot: SnapshotRef,
        output: Path,
        parent: Path | None = None,
        *,
        tuned: Mapping[str, int | float] | None = None,
        unseen_share: float = 0.0,
    ) -> Self:
        """Return a job with the sections of the settings that training reads."""
        return cls(
            kind=kind,
            snapshot=snapshot,
            output=output,
            runs=settings.runs,
            parent=parent,
            tuned=dict(tuned or {}),
            unseen_share=unseen_share,
            model=settings.model,
            training=settings.training,
            micro_update=settings.micro_update,
            evaluation=settings.evaluation,
        )

    @model_validator(mode="after")
    def _micro_update_has_a_parent(self) -> Self:
        if self.kind == "micro" and self.parent is None:
            raise ValueError("a micro-update needs a parent checkpoint")
        return self

    @property
    def settings(self) -> Settings:
        """The settings of the job; sections that training does not read have their defaults."""
        return Settings(
            work_root=self.runs,
            model=self.model,
            training=self.training,
            micro_update=self.micro_update,
            evaluation=self.evaluation,
        )

    def write(self) -> Path:
        """Write the job into its output folder; return the file."""
        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output / JOB_FILE
        # Another attempt may be reading or writing it.
        temporary = path.with_suffix(f".{uuid4().hex[:8]}.tmp")
        temporary.write_text(self.model_dump_json(indent=2) + "\n")
        temporary.replace(path)
        return path


def read_job(path: Path) -> TrainingJob:
    """Read a job; raise ConfigurationError when the file is missing or not a job."""
    try:
        return TrainingJob.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(f"{path} is not a training job: {error}") from error
