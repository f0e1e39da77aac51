import pytest
import torch
from torch.nn import functional

from recsys.training import losses
from recsys.training.losses import (
    liking_loss,
    next_item_loss,
    rating_loss,
    sampled_next_item_loss,
)


def test_sampling_the_whole_catalogue_gives_the_full_softmax() -> None:
    torch.manual_seed(0)
    users, items = torch.randn(6, 8), torch.randn(20, 8)
    targets, weights = torch.randint(0, 20, (6,)), torch.rand(6)
    everything = torch.arange(20)
    sampled = sampled_next_item_loss(
        users, items[targets], items, targets, everything, torch.zeros(20), weights
    )
    assert torch.allclose(sampled, next_item_loss(users, items, targets, weights), atol=1e-4)


def test_the_loss_in_chunks_is_cross_entropy_with_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses._CHUNK_LOGITS, "cpu", 3 * 20)  # three rows at a time, the last chunk shorter
    torch.manual_seed(0)
    users, items = torch.randn(7, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    targets, weights = torch.randint(0, 20, (7,)), torch.rand(7)

    chunked = next_item_loss(users, items, targets, weights)
    got = torch.autograd.grad(3 * chunked, [users, items])
    each = functional.cross_entropy(users @ items.T, targets, reduction="none")
    whole = (each * weights).sum()
    expected = torch.autograd.grad(3 * whole, [users, items])

    assert torch.allclose(chunked, whole, rtol=1e-5)
    for own, other in zip(got, expected, strict=True):
        assert torch.allclose(own, other, atol=1e-5)


def test_the_sampled_loss_in_chunks_is_its_formula_with_its_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(losses._CHUNK_LOGITS, "cpu", 3 * 5)  # three rows at a time, the last chunk shorter
    torch.manual_seed(0)
    users, items = torch.randn(7, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    targets, weights = torch.tensor([4, 0, 11, 19, 4, 12, 9]), torch.rand(7)
    drawn, log_counts = torch.tensor([0, 4, 7, 12, 19]), torch.randn(5)

    chunked = sampled_next_item_loss(users, items[targets], items[drawn], targets, drawn, log_counts, weights)
    got = torch.autograd.grad(3 * chunked, [users, items])
    corrected = (users @ items[drawn].T - log_counts).masked_fill(targets[:, None] == drawn, -torch.inf)
    logits = torch.cat([(users * items[targets]).sum(1, keepdim=True), corrected], 1)
    each = functional.cross_entropy(logits, torch.zeros_like(targets), reduction="none")
    whole = (each * weights).sum()
    expected = torch.autograd.grad(3 * whole, [users, items])

    assert torch.allclose(chunked, whole, rtol=1e-5)
    for own, other in zip(got, expected, strict=True):
        assert torch.allclose(own, other, atol=1e-5)


def test_the_correction_makes_the_sampled_partition_sum_unbiased() -> None:
    torch.manual_seed(0)
    users, items = torch.randn(1, 8) * 0.3, torch.randn(500, 8)
    target = torch.tensor([3])
    probability = functional.normalize(torch.rand(500) + 0.05, p=1, dim=0)
    full = next_item_loss(users, items, target, torch.ones(1))
    losses = []
    for _ in range(200):
        drawn = torch.unique(torch.multinomial(probability, 100, replacement=True))
        chance = 1 - (1 - probability[drawn]) ** 100
        losses.append(
            sampled_next_item_loss(
                users, items[target], items[drawn], target, drawn, chance.log(), torch.ones(1)
            )
        )
    assert abs(torch.stack(losses).mean() - full) < 0.05


def test_events_without_sentiment_or_value_have_no_loss() -> None:
    assert liking_loss(torch.tensor([3.0]), torch.tensor([0])) == 0
    assert rating_loss(torch.tensor([3.0]), torch.tensor([float("nan")])) == 0
    assert liking_loss(torch.tensor([3.0, 3.0]), torch.tensor([1, 0])) < 0.1
    assert liking_loss(torch.tensor([3.0]), torch.tensor([-1])) > 3
