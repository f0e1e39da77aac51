"""What several training processes (torchrun) have to agree on."""

import os
from datetime import timedelta

import torch
import torch.distributed

from recsys.errors import ConfigurationError

_LONGEST_WAIT = timedelta(hours=12)
"""For the first process to divide events into files; torchrun ends the others at once when one fails."""


def choose_device(name: str) -> torch.device:
    """Return the device that a setting names; `auto` is a GPU when there is one.

    Of several processes that torchrun started on a machine, each gets the GPU of its number.

    Raises
    ------
    ConfigurationError
        When it names no device, or a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"RECSYS_TRAINING__DEVICE is {name!r}, which names no device; set it to auto, cpu, cuda or cuda:1"
        ) from error
    if device.type != "cuda":
        return device
    own = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    if own >= torch.cuda.device_count():
        raise ConfigurationError(
            f"the GPU cuda:{own} was asked for, but torch sees {torch.cuda.device_count()}; set "
            "RECSYS_TRAINING__DEVICE to another device, or RECSYS_TRAINING__DEVICES to the number of GPUs"
        )
    return torch.device("cuda", own)


def join_processes(device: torch.device) -> None:
    """Join the group when torchrun started this process; GPUs talk by NCCL, CPUs by gloo."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=_LONGEST_WAIT)


def leave_processes() -> None:
    """Leave the group."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def processes() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def is_first() -> bool:
    """Return whether this process writes files and speaks."""
    return processes()[0] == 0


def barrier() -> None:
    """Wait for the others."""
    if processes()[1] > 1:
        torch.distributed.barrier()


def agree(value: float) -> float:
    """Return the first process's value, so that all decide alike."""
    if processes()[1] == 1:
        return value
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    torch.distributed.broadcast(shared, 0)
    return float(shared[0])
