"""Copies to the device that computes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(values: Tensor | NDArray[np.generic], device: torch.device) -> Tensor:
    """Return values on a device; a GPU fetches them by itself, while this process goes on.

    An ordinary copy waits for everything that the GPU was given before.
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
