"""Updates of single rows, against AdamW of the whole table."""

import pytest
import torch
from torch import Tensor, nn

from recsys.training.row_updates import RowUpdates

ROWS, DIM, RATE, DECAY = 6, 4, 0.01, 0.1


def by_adam(
    table: Tensor,
    gradients: list[Tensor],
    betas: tuple[float, float],
    weight_decay: float,
    average_decay: float,
) -> tuple[Tensor, Tensor]:
    """Return the table and its moving average after AdamW's steps with dense gradients."""
    weights, average = nn.Parameter(table.clone()), table.clone()
    optimizer = torch.optim.AdamW([weights], lr=RATE, betas=betas, weight_decay=weight_decay)
    for gradient in gradients:
        weights.grad = gradient
        optimizer.step()
        average.lerp_(weights.detach(), 1 - average_decay)
    return weights.detach(), average


def by_rows(
    table: Tensor,
    gradients: list[Tensor],
    betas: tuple[float, float],
    weight_decay: float,
    average_decay: float,
) -> RowUpdates:
    """Return the state after updates of the rows that have a gradient."""
    rows = RowUpdates(nn.Parameter(table.clone()), betas=betas, weight_decay=weight_decay, averages=True)
    for number, gradient in enumerate(gradients):
        used = gradient.abs().sum(1).nonzero()[:, 0]
        rows.update(used, gradient[used], number + 1, RATE, average_decay)
    rows.settle()
    return rows


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_without_a_first_moment_rows_end_where_adam_ends(share: float, decay: float) -> None:
    torch.manual_seed(0)
    table = torch.randn(ROWS, DIM)
    gradients = [torch.randn(ROWS, DIM) * (torch.rand(ROWS, 1) < share) for _ in range(40)]
    weights, average = by_adam(table, gradients, (0.0, 0.98), decay, 0.9)
    found = by_rows(table, gradients, (0.0, 0.98), decay, 0.9)
    assert torch.allclose(found.table, weights, atol=1e-5)
    assert found.average is not None
    # An average that catches up takes the weights as they were, before they decayed.
    assert torch.allclose(found.average, average, atol=1e-5, rtol=10 * RATE * decay)


def test_a_row_moves_at_once_as_far_as_adam_moves_it_in_the_end() -> None:
    torch.manual_seed(1)
    table, betas, idle = torch.zeros(ROWS, DIM), (0.9, 0.98), torch.zeros(ROWS, DIM)
    only = idle.clone()
    only[2] = torch.tensor([1.0, -3.0, 0.1, 20.0])
    # Late enough for Adam's corrections of the first steps to be 1.
    gradients = [idle] * 600 + [only] + [idle] * 200
    weights, _ = by_adam(table, gradients, betas, 0.0, 0.9)
    found = by_rows(table, gradients, betas, 0.0, 0.9).table
    assert torch.allclose(found, weights, rtol=1e-3)
    assert found[[0, 1, 3, 4, 5]].abs().max() == 0


def test_steps_leave_rows_without_a_gradient_alone() -> None:
    table = torch.randn(ROWS, DIM)
    rows = RowUpdates(nn.Parameter(table.clone()), betas=(0.9, 0.98), weight_decay=DECAY, averages=True)
    rows.update(torch.tensor([4]), torch.ones(1, DIM), 1, RATE, 0.9)
    others = [0, 1, 2, 3, 5]
    assert torch.equal(rows.table[others], table[others])
    assert not torch.equal(rows.table[4], table[4])
