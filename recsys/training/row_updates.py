"""Adam for a table of which each step uses few rows: a step costs as much as these rows, not as the table.

Adam moves every row in every step, also those without a gradient, because the first moment of an earlier
gradient fades only slowly. Here a row is moved when it has a gradient, at once by as much as Adam would move
it for this gradient in this and all later steps. So there is no first moment. The second moment, weight decay
and the moving average go on in every step as in Adam; a row catches up on what it has missed when it is used
again, and at the end of an epoch.
"""

import math

import torch
from torch import Tensor, nn


class RowUpdates:
    """Updates rows of a table [rows, dim].

    Parameters
    ----------
    table
        The parameter.
    betas, weight_decay, eps
        As in AdamW.
    averages
        Whether there is a moving average of the table.

    Attributes
    ----------
    second
        [rows, dim] second moments.
    average
        [rows, dim] moving average; None without one.
    """

    def __init__(
        self,
        table: nn.Parameter,
        *,
        betas: tuple[float, float],
        weight_decay: float,
        averages: bool,
        eps: float = 1e-8,
    ) -> None:
        self.table = table.detach()
        self.second = torch.zeros_like(self.table)
        self.average = self.table.clone() if averages else None
        self._beta, self._weight_decay, self._eps = betas[1], weight_decay, eps
        # A geometric series: the first moment that a gradient leaves, over the root of the second moment.
        self._gain = (1 - betas[0]) / (1 - betas[0] / math.sqrt(betas[1]))
        # Sums over the steps of three logarithms: of the decay of second moments, of weights, of the average.
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._sums_of_rows = torch.zeros(len(table), 3, dtype=torch.float64, device=table.device)

    @torch.no_grad()
    def update(
        self, rows: Tensor, gradient: Tensor, step: int, learning_rate: float, average_decay: float = 0.0
    ) -> None:
        """Move some rows.

        Parameters
        ----------
        rows
            [n] different rows.
        gradient
            [n, dim]
        step
            Number of this step, from 1.
        average_decay
            Share of the moving average that stays in this step.
        """
        self._catch_up(rows)
        decay = math.log1p(-learning_rate * self._weight_decay)
        second = self.second[rows].lerp_(gradient.square(), 1 - self._beta)
        self.second[rows] = second
        root = second.div_(1 - self._beta**step).sqrt_().add_(self._eps)
        moved = (
            self.table[rows].mul_(math.exp(decay)).addcdiv_(gradient, root, value=-learning_rate * self._gain)
        )
        self.table[rows] = moved
        if self.average is not None:
            self.average[rows] = self.average[rows].lerp_(moved, 1 - average_decay)
        self._sums += torch.tensor([math.log(self._beta), decay, math.log(max(average_decay, 1e-300))])
        self._sums_of_rows[rows] = self._sums.to(self.table.device)

    @torch.no_grad()
    def settle(self) -> None:
        """Let all rows catch up."""
        self._catch_up(slice(None))
        self._sums_of_rows.copy_(self._sums)

    def _catch_up(self, rows: Tensor | slice) -> None:
        missed = (self._sums.to(self.table.device) - self._sums_of_rows[rows]).exp().to(self.table.dtype)
        self.second[rows] *= missed[:, :1]
        if self.average is not None:
            self.average[rows] = self.table[rows].lerp(self.average[rows], missed[:, 2:])
        self.table[rows] *= missed[:, 1:2]
