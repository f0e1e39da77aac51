"""The processes that train one model together, and how they divide the encoding of texts."""

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor


def processes() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gather_rows(own: Tensor, rows: int) -> Tensor:
    """Return the rows of all processes, where each computed every n-th one of them.

    All processes call it at the same time. Gradients of a row return to the process that computed it.

    Parameters
    ----------
    own
        [own rows, width] rows `rank`, `rank + processes`, ... of the result.
    rows
        Number of rows of the result, at least one for each process.
    """
    _, world = processes()
    longest = -(-rows // world)
    padded = torch.cat([own, own.new_zeros(longest - len(own), own.shape[1])])
    gathered = torch.distributed.nn.functional.all_gather(padded)  # type: ignore[no-untyped-call]
    return torch.stack(gathered, 1).flatten(0, 1)[:rows]
