"""The state of a training run after each epoch, so that a killed run goes on where it was."""

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
_OPTIMIZER, _AVERAGE = "optimizer.", "average."
_BEST, _LAST = "best.safetensors", "last.safetensors"


@dataclass
class RunState:
    """How far a run is, and how good it was."""

    epoch: int = 0
    """Epochs finished."""
    best_epoch: int = 0
    best_score: float = float("-inf")
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: str = ""
    """Settings and data that the run was started with; another run does not resume from it."""


def weights_of(model: Recommender) -> dict[str, Tensor]:
    """Return everything that training changes."""
    text_state = model.text.trained_state() if model.text is not None else {}
    own = {n: v for n, v in model.state_dict().items() if not n.startswith(_TEXT)}
    return (
        {_MODEL + name: value.detach().clone() for name, value in own.items()}
        | {_TEXT + name: value.detach().clone() for name, value in text_state.items()}
        | {_ITEMS: model.text_vectors.clone()}
    )


def restore_weights(model: Recommender, weights: dict[str, Tensor]) -> None:
    """Put back what `weights_of` returned."""
    model.load_state_dict(
        {n.removeprefix(_MODEL): v for n, v in weights.items() if n.startswith(_MODEL)}, strict=False
    )
    text_state = {n.removeprefix(_TEXT): v for n, v in weights.items() if n.startswith(_TEXT)}
    if model.text is not None and text_state:
        model.text.load_trained_state(text_state)
    model.text_vectors.copy_(weights[_ITEMS])


class RunFolder:
    """Keeps the last and the best state of a run in a folder; one file each, replaced whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_best(self, model: Recommender) -> None:
        """Keep the weights of the best epoch so far."""
        _write(self.folder / _BEST, weights_of(model), {})

    def restore_best(self, model: Recommender) -> None:
        """Put the weights of the best epoch back."""
        restore_weights(model, safetensors.torch.load_file(self.folder / _BEST))

    def save_last(self, trainer: Trainer, state: RunState) -> None:
        """Keep what is needed to go on after this epoch."""
        tensors = weights_of(trainer.model)
        for number, moments in trainer.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"{_OPTIMIZER}{number}.{name}"] = value.detach().clone()
        for number, value in enumerate(trainer.average):
            tensors[f"{_AVERAGE}{number}"] = value.detach().clone()
        _write(self.folder / _LAST, tensors, {"state": json.dumps(asdict(state))})

    def resume(self, trainer: Trainer, fingerprint: str) -> RunState:
        """Bring a trainer to where a run with the same fingerprint stopped; a new state when none did."""
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
    """Seed torch's generators; numpy's are made where they are used."""
    torch.manual_seed(seed)
