"""Attention that decays with the time between events."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from recsys.model import recommender as recommender_module
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.events import EventBatch, collate, time_gaps
from recsys.model.recommender import Recommender
from recsys.model.time_decay import UNITS, TimeDecay, log_times
from recsys.model.user_encoder import Block
from recsys.snapshot.sequences import Catalogue, Sequences
from tests.small_models import histories, liked, theme_world

DAY = 86_400_000_000


@pytest.fixture
def past(catalogue: Catalogue) -> Sequences:
    """Users with histories of several lengths, one of them empty."""
    return histories(catalogue, liked("space-0", "space-1", "crime-2"), [], liked("crime-1"))


@pytest.fixture
def decaying(recommender: Recommender) -> Recommender:
    """A recommender in which attention decays, and nothing else depends on time."""
    torch.manual_seed(1)
    for block in recommender.users.blocks:
        assert isinstance(block, Block)
        torch.nn.init.uniform_(block.decay.power, 0.02, 0.1)
        torch.nn.init.normal_(block.query_key_value.weight)
    torch.nn.init.zeros_(recommender.users.gap.weight)
    return recommender


def powers(model: Recommender) -> torch.nn.Parameter:
    """Return the powers of the first layer."""
    block = model.users.blocks[0]
    assert isinstance(block, Block)
    return block.decay.power


def with_days(sequences: Sequences, days: list[float]) -> Sequences:
    return replace(sequences, occurred_at=(np.array(days) * DAY).astype(np.int64), asked_at=None)


def test_attention_is_multiplied_by_powers_of_the_time_between() -> None:
    decay = TimeDecay(heads=2)
    torch.nn.init.constant_(decay.power[0, 0], 0.05)
    torch.nn.init.constant_(decay.power[1, 1], 0.2)
    time = torch.tensor([[0.0, 60.0, 60.0, 86_460.0]])
    factors = decay(log_times(time)).exp()[0].detach().numpy()
    assert UNITS == (60, 86_400)
    np.testing.assert_allclose(factors[0, 1], [2**-0.5, 1, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(factors[0, 3], [1442**-0.5, 1441**-0.5, 1441**-0.5, 1], rtol=1e-5)
    np.testing.assert_allclose(factors[1, 3, :3], [(2 + 60 / 86_400) ** -2, 2**-2, 2**-2], rtol=1e-5)


def test_with_powers_near_0_the_bias_changes_nothing(recommender: Recommender, past: Sequences) -> None:
    fused = recommender.user_vectors(past)
    torch.nn.init.constant_(powers(recommender), 1e-12)
    np.testing.assert_allclose(recommender.user_vectors(past), fused, atol=1e-5)


def test_vectors_depend_on_differences_of_time_only(decaying: Recommender, past: Sequences) -> None:
    near = decaying.user_vectors(with_days(past, [1, 1.1, 1.2, 5]))
    shifted = decaying.user_vectors(with_days(past, [15_001, 15_001.1, 15_001.2, 20_000]))
    far = decaying.user_vectors(with_days(past, [1, 40, 41.2, 5]))
    np.testing.assert_allclose(shifted, near, atol=1e-5)
    assert np.abs(far[0] - near[0]).max() > 1e-3
    np.testing.assert_allclose(far[1:], near[1:], atol=1e-5)


def test_long_histories_are_encoded_in_small_batches(
    decaying: Recommender, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = theme_world(catalogue).take_users(range(20))
    together = decaying.user_vectors(many)
    sizes: list[int] = []
    encode = decaying.encode_events

    def counted(events: EventBatch, table: torch.Tensor) -> torch.Tensor:
        sizes.append(len(events.item))
        return encode(events, table)

    monkeypatch.setattr(decaying, "encode_events", counted)
    monkeypatch.setattr(recommender_module, "_ATTENTION_IN_MEMORY", 3 * (int(many.lengths.max()) + 1) ** 2)
    np.testing.assert_allclose(decaying.user_vectors(many), together, atol=1e-5)
    assert max(sizes) == 3


def test_training_moves_the_powers(recommender: Recommender, catalogue: Catalogue) -> None:
    world = theme_world(catalogue).take_users(range(4))
    events = collate(world, time_gaps(world), world.offsets[:-1], world.offsets[1:])
    recommender.users.train()
    vectors = recommender.encode_events(events, recommender.item_table())
    vectors[:, -1, 0].sum().backward()  # type: ignore[no-untyped-call]
    gradient = powers(recommender).grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_an_older_checkpoint_has_no_powers(recommender: Recommender, past: Sequences, tmp_path: Path) -> None:
    save_recommender(recommender, tmp_path)
    path = tmp_path / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    kept = {name: value for name, value in weights.items() if not name.endswith("decay.power")}
    assert len(kept) < len(weights)
    safetensors.torch.save_file(kept, path)
    np.testing.assert_allclose(load_recommender(tmp_path).score(past), recommender.score(past), atol=1e-5)


def test_a_checkpoint_keeps_the_powers(decaying: Recommender, past: Sequences, tmp_path: Path) -> None:
    save_recommender(decaying, tmp_path)
    np.testing.assert_allclose(load_recommender(tmp_path).score(past), decaying.score(past), atol=1e-5)
