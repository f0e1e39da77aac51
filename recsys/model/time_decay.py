"""Attention that decays with time, by a power (after FuXi-gamma, arXiv 2512.12740).

The attention to an event of t seconds earlier is multiplied by (1 + t / unit)^-p for each unit. The powers p
are learned for each head and layer. They start at 0, where time has no effect.
"""

import torch
from torch import Tensor, nn

UNITS = (60.0, 86_400.0)
"""Seconds within which time makes little difference."""
_SPEED = 10.0
"""The powers are stored divided by this number, so that they change faster in training."""


class TimeDecay(nn.Module):
    """The learned powers of one layer."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.zeros(heads, len(UNITS)))

    def forward(self, logs: Tensor) -> Tensor:
        """Return what is added to the logits of attention, [users, heads, length, length].

        Parameters
        ----------
        logs
            [users, length, length, units] from `log_times`.
        """
        decay = logs @ (_SPEED * self.power).T
        future = torch.full(logs.shape[1:3], float("-inf"), device=logs.device).triu(1)
        result: Tensor = future - decay.permute(0, 3, 1, 2)
        return result


def log_times(time: Tensor) -> Tensor:
    """Return ln(1 + t / unit) [users, length, length, units] of the time t from each event to each other.

    It is 0 for later events.

    Parameters
    ----------
    time
        [users, length] in seconds.
    """
    past = (time[:, :, None] - time[:, None, :]).clamp(min=0)
    return torch.stack([torch.log1p(past / unit) for unit in UNITS], -1)
