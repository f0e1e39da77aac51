"""Save the state of a training run after each epoch, so that a killed run can resume."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from recsys.model.recommender import Recommender
from recsys.training.trainer import Trainer

_MODEL, _TEXT, _ITEMS = "model.", "text.", "text_vectors"
_OPTIMIZER, _AVERAGE, _ROWS = "optimizer.", "average.", "rows."
_BEST, _LAST = "best.safetensors", "last.safetensors"


@dataclass
class RunState:
    """Progress of a run.

    Attributes
    ----------
    epoch
        Number of finished epochs.
    best_epoch, best_score
        Epoch with the best validation metric, from 1, and that metric.
    step
        Number of optimizer steps.
    seconds
        Duration of the finished epochs.
    history
        Report of each finished epoch.
    fingerprint
        Digest of the run's settings and data. Only a run with the same fingerprint resumes.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = float("-inf")
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: str = ""


def weights_of(model: Recommender) -> dict[str, Tensor]:
    """Return a copy of all weights that training changes, and of text vectors if their encoder is trained.

    Those of a frozen encoder are most of a large catalogue's model, and stay as they are.
    """
    text_state = model.text.trained_state() if model.text is not None else {}
    weights = {_MODEL + n: v for n, v in model.state_dict().items() if not n.startswith(_TEXT)}
    weights |= {_TEXT + name: value for name, value in text_state.items()}
    if text_state:
        weights[_ITEMS] = model.text_vectors
    return {name: value.detach().clone() for name, value in weights.items()}


def restore_weights(model: Recommender, weights: dict[str, Tensor]) -> None:
    """Load weights that `weights_of` returned."""
    model.load_state_dict(
        {n.removeprefix(_MODEL): v for n, v in weights.items() if n.startswith(_MODEL)}, strict=False
    )
    text_state = {n.removeprefix(_TEXT): v for n, v in weights.items() if n.startswith(_TEXT)}
    if model.text is not None and text_state:
        model.text.load_trained_state(text_state)
        model.text_vectors.copy_(weights[_ITEMS])


def _rows_of(trainer: Trainer) -> dict[str, Tensor]:
    """Return what is known of the rows that are updated one by one."""
    if trainer.rows is None:
        return {}
    known = {"second": trainer.rows.second, "average": trainer.rows.average}
    return {name: value for name, value in known.items() if value is not None}


class RunFolder:
    """Stores the last and the best state of a run in a folder, in one file each; writes are atomic."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_best(self, model: Recommender) -> None:
        """Save the weights of the best epoch so far."""
        _write(self.folder / _BEST, weights_of(model), {})

    def restore_best(self, model: Recommender) -> None:
        """Load the weights of the best epoch."""
        restore_weights(model, safetensors.torch.load_file(self.folder / _BEST))

    def save_last(self, trainer: Trainer, state: RunState) -> None:
        """Save everything that is needed to resume after this epoch."""
        tensors = weights_of(trainer.model)
        for number, moments in trainer.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"{_OPTIMIZER}{number}.{name}"] = value.detach().clone()
        for number, value in enumerate(trainer.average):
            tensors[f"{_AVERAGE}{number}"] = value.detach().clone()
        tensors |= {_ROWS + name: value for name, value in _rows_of(trainer).items()}
        _write(self.folder / _LAST, tensors, {"state": json.dumps(asdict(state))})

    def resume(self, trainer: Trainer, fingerprint: str) -> RunState:
        """Restore a trainer from a run with the same fingerprint; without one, return a new state."""
        path = self.folder / _LAST
        if not path.is_file():
            return RunState(fingerprint=fingerprint)
        try:
            with safetensors.safe_open(path, "pt") as file:
                state = RunState(**json.loads(file.metadata()["state"]))
                if state.fingerprint != fingerprint:
                    return RunState(fingerprint=fingerprint)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
            return RunState(fingerprint=fingerprint)
        restore_weights(trainer.model, tensors)
        trainer.average = [tensors[f"{_AVERAGE}{n}"].to(v) for n, v in enumerate(trainer.average)]
        for name, value in _rows_of(trainer).items():
            value.copy_(tensors[_ROWS + name])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(_OPTIMIZER):
                number, part = name.removeprefix(_OPTIMIZER).split(".", 1)
                moments.setdefault(int(number), {})[part] = value
        groups = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        trainer.step = state.step
        return state


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    on_cpu = {name: value.to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    safetensors.torch.save_file(on_cpu, temporary, metadata=metadata)
    temporary.replace(path)


def seed_everything(seed: int) -> None:
    """Seed the generators of torch; NumPy generators are created with a seed where they are used."""
    torch.manual_seed(seed)
