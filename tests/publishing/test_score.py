"""Batch scoring with a recommender of random weights, without a database."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.model.ranking import NO_ITEM, mask_hidden, top_k
from recsys.model.recommender import Recommender
from recsys.publishing import score as score_module
from recsys.publishing.histories import UserBatch
from recsys.publishing.score import BatchScorer, score_batches
from recsys.publishing.servable import explain_in_sentences
from recsys.settings import PublishingSettings
from tests.small_models import (
    EVENT_TYPES,
    histories,
    liked,
    small_settings,
    theme_catalogue,
    write_tiny_encoder,
)

K = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """A model with random weights whose first two items are unavailable."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    catalogue = theme_catalogue()
    catalogue = replace(catalogue, available=np.arange(len(catalogue)) > 1)
    settings = small_settings(folder, write_tiny_encoder(folder / "encoder")).model
    built = Recommender.build(settings, catalogue, EVENT_TYPES)
    built.items.trained[:] = True
    return built.eval()


def batch_of(model: Recommender, users: int, first: int = 0) -> UserBatch:
    rng = np.random.default_rng(first)
    names = model.catalogue.item_ids
    past = histories(model.catalogue, *[liked(*rng.choice(names, rng.integers(0, 9))) for _ in range(users)])
    # The warehouse returns consumed items in no particular order.
    order = rng.permutation(past.events)
    return UserBatch(first, past, past.event_users()[order], past.item_index[order])


def test_lists_do_not_depend_on_the_block_size(model: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(model, 20)
    scores = mask_hidden(model.score(batch.histories), batch.histories)
    scores[:, ~model.catalogue.available] = -np.inf
    expected, best = top_k(scores, K)
    for block in (1, 7, 256):
        monkeypatch.setattr(score_module, "BLOCK_USERS", block)
        scored = BatchScorer(model, PublishingSettings(k=K), explain_in_sentences).score(batch)
        assert scored.items.tolist() == expected.tolist()
        np.testing.assert_allclose(scored.scores, best, atol=1e-5)
        assert [len(row) for row in scored.reasons] == [K] * 20
        np.testing.assert_allclose(scored.user_vectors, model.user_vectors(batch.histories), atol=1e-5)


def test_a_request_applies_to_its_user_in_any_block(
    model: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_module, "BLOCK_USERS", 2)
    batch = batch_of(model, 5)
    requests = ["", "", "", "bread and soup", ""]
    scored = BatchScorer(model, PublishingSettings(k=K), None).score(batch, requests)
    scores = mask_hidden(model.score(batch.histories, requests), batch.histories)
    scores[:, ~model.catalogue.available] = -np.inf
    assert scored.items.tolist() == top_k(scores, K)[0].tolist()


def test_memory_does_not_grow_with_users_or_items(
    model: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No array of scores exceeds the limit, for any number of users and any batch size."""
    limit = 3 * len(model.catalogue)
    monkeypatch.setattr(score_module, "SCORES_IN_MEMORY", limit)
    scorer = BatchScorer(model, PublishingSettings(k=K), None)
    shapes: list[tuple[int, ...]] = []
    alive: set[int] = set()
    original = scorer.scorer.score

    def watched(*arguments: Any) -> torch.Tensor:
        scores = original(*arguments)
        shapes.append(tuple(scores.shape))
        alive.add(scores.data_ptr())
        return scores

    monkeypatch.setattr(scorer.scorer, "score", watched)

    def batches(users: int) -> Iterator[UserBatch]:
        for first in range(0, users, 10):
            yield batch_of(model, 10, first)

    for users in (10, 200):
        assert (
            sum(len(scored.items) for scored in score_batches(scorer, batches(users), users=users)) == users
        )
    assert max(rows * items for rows, items in shapes) == limit
    assert len(alive) == 1  # the same memory is reused


def test_diversity_keeps_the_rules(model: Recommender) -> None:
    batch = batch_of(model, 12)
    plain = BatchScorer(model, PublishingSettings(k=K), None).score(batch)
    varied = BatchScorer(model, PublishingSettings(k=K, diversity=0.7), None).score(batch)
    assert (varied.items[:, 0] == plain.items[:, 0]).all()
    assert (varied.items != plain.items).any()
    consumed = set(zip(batch.hidden_user.tolist(), batch.hidden_item.tolist(), strict=True))
    for user, items in enumerate(varied.items.tolist()):
        assert len(set(items)) == K
        assert all(item > 1 and (user, item) not in consumed for item in items if item != NO_ITEM)


def test_reading_lists_imports_no_torch_and_staging_shards_no_mlflow(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, recsys.publishing.read; assert 'torch' not in sys.modules;"
        "import recsys.publishing.processes, recsys.registry.local_copies; assert 'mlflow' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
