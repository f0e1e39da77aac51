"""Coordinate the training processes that torchrun starts, on one machine or several."""

from datetime import timedelta

import torch
import torch.distributed

from recsys.model.processes import processes

_TIMEOUT = timedelta(hours=12)
"""Longest wait for another process: the first one may divide events into files meanwhile. When a process
fails, torchrun stops the others at once."""


def join_processes(device: torch.device) -> None:
    """Join the process group if torchrun started this process: NCCL between GPUs, gloo between CPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if torch.distributed.is_torchelastic_launched():
        backend = "nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=_TIMEOUT)


def leave_processes() -> None:
    """Leave the process group."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def is_first() -> bool:
    """Return whether this is the process that writes files and logs."""
    return processes()[0] == 0


def is_first_here() -> bool:
    """Return whether this is the process of its machine that tells people how far the run is."""
    return torch.distributed.get_node_local_rank(fallback_rank=0) == 0


def barrier() -> None:
    """Wait until all processes get here."""
    if processes()[1] > 1:
        torch.distributed.barrier()


def agree(value: float) -> float:
    """Return the first process's value, so that all processes make the same decision."""
    if processes()[1] == 1:
        return value
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    torch.distributed.broadcast(shared, 0)
    return float(shared[0])
