"""Choose the device that computes, and copy tensors to it."""

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

from recsys.errors import ConfigurationError


def choose_device(name: str) -> torch.device:
    """Return the device for a setting; `auto` is the GPU if there is one.

    When torchrun starts several processes on a machine, each process gets the GPU of its local rank.

    Raises
    ------
    ConfigurationError
        The name is not a device, or the GPU does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"RECSYS_TRAINING__DEVICE is {name!r}, which is not a device; set it to auto, cpu, cuda or cuda:1"
        ) from error
    if device.type != "cuda":
        return device
    index = torch.distributed.get_node_local_rank(0) if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise ConfigurationError(
            f"the GPU cuda:{index} is configured, but torch finds {torch.cuda.device_count()} GPUs; set "
            "RECSYS_TRAINING__DEVICE to another device, or RECSYS_TRAINING__DEVICES to the number of GPUs"
        )
    return torch.device("cuda", index)


def to_device(values: Tensor | NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy values to a device without blocking.

    An ordinary copy to a GPU waits until the GPU has finished all earlier work.
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
