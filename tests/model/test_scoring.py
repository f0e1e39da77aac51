from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recsys.model.collaborative import EASE, Popularity
from recsys.model.fusion import (
    COLLABORATIVE,
    LIKING,
    NEURAL,
    POPULARITY,
    REQUEST,
    SUCCESSION,
    Fusion,
    standardise,
)
from recsys.model.recommender import Recommender
from recsys.model.repeats import repeat_features
from recsys.model.succession import StandardisedSuccession, Succession
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.visits import VISIT_GAP
from tests.small_models import disliked, histories, liked, theme_world


@pytest.fixture
def past(catalogue: Catalogue) -> Sequences:
    """Three users, one of them without events."""
    return histories(catalogue, liked("space-0", "space-1"), [], disliked("crime-1") + liked("crime-2"))


@pytest.fixture
def fused(recommender: Recommender, catalogue: Catalogue) -> Recommender:
    """A recommender with all parts, unequal weights and some untrained items."""
    world = theme_world(catalogue)
    recommender.collaborative = EASE.fit(world, len(catalogue), 1.0)
    recommender.succession = Succession.fit([world], len(catalogue))
    recommender.popularity = Popularity.fit(world, len(catalogue))
    recommender.fusion = Fusion(
        {NEURAL: 1.0, LIKING: 0.7, COLLABORATIVE: 0.4, SUCCESSION: 0.6, POPULARITY: 0.3}
    )
    recommender.returning_fusion = Fusion({NEURAL: 0.2, LIKING: 0.9, COLLABORATIVE: 0.1, POPULARITY: 0.8})
    recommender.request_fusion = Fusion({NEURAL: 2.0, LIKING: 0.3, REQUEST: 0.6})
    recommender.items.trained[5:9] = False
    return recommender


def standardised_one_by_one(
    model: Recommender, past: Sequences, requests: list[str] | None
) -> dict[str, NDArray[np.float32]]:
    """Compute the parts by their definition: all scores of each part, standardised over the items."""
    vectors = model.item_vectors()
    users = model.user_vectors(past)
    known = model.items.trained.numpy()
    assert model.collaborative is not None
    assert model.succession is not None
    following, shift = StandardisedSuccession(model.succession, np.arange(len(known)), known)(past)
    with torch.no_grad():
        pairs = np.stack(
            [np.repeat(np.arange(len(users)), len(vectors)), np.tile(np.arange(len(vectors)), len(users))]
        )
        likes = model.feedback(torch.from_numpy(users)[pairs[0]], torch.from_numpy(vectors)[pairs[1]])
    asked = {}
    if requests:
        assert model.request_vectors is not None
        matched = model.requests.encode_requests([request or "nothing" for request in requests])
        logits = (model.requests(matched, model.request_vectors)).numpy()
        asked = {REQUEST: logits * np.array([bool(request) for request in requests])[:, None]}
    return asked | {
        NEURAL: standardise(users @ vectors.T),
        LIKING: standardise(likes.numpy().reshape(len(users), len(vectors))),
        POPULARITY: standardise(model.popularity.score(past), known),
        COLLABORATIVE: standardise(model.collaborative.score(past), known),
        SUCCESSION: following.toarray() - shift[:, None] * known,
    }


@pytest.mark.parametrize("requests", [None, ["", "bread and soup", "rocket"]], ids=["plain", "asked"])
def test_the_folded_score_is_the_weighted_sum_of_standardised_parts(
    fused: Recommender, past: Sequences, requests: list[str] | None
) -> None:
    expected = standardised_one_by_one(fused, past, requests)
    parts = fused.parts(past, requests)
    assert parts.keys() == expected.keys()
    for name, part in parts.items():
        np.testing.assert_allclose(part, expected[name], atol=2e-5)
    total = fused.fusion.join(expected)
    for row, request in enumerate(requests or []):
        if request:
            total[row] = fused.request_fusion.join(expected)[row]
    np.testing.assert_allclose(fused.score(past, requests), total, atol=5e-5)


@pytest.mark.parametrize("requests", [None, ["", "", "rocket"]], ids=["plain", "asked"])
def test_who_comes_back_is_scored_with_weights_of_their_own(
    fused: Recommender, past: Sequences, requests: list[str] | None
) -> None:
    latest = past.moments
    returning = past.asked(latest + np.array([VISIT_GAP + 1, VISIT_GAP + 1, VISIT_GAP]))
    expected = fused.fusion.join(fused.parts(returning, requests))
    expected[0] = fused.returning_fusion.join(fused.parts(returning, requests))[0]
    if requests:
        expected[2] = fused.request_fusion.join(fused.parts(returning, requests))[2]
    np.testing.assert_allclose(fused.score(returning, requests), expected, atol=5e-5)


def test_the_neural_score_has_a_weight_of_its_own_for_what_a_user_had(
    fused: Recommender, past: Sequences
) -> None:
    past = replace(past, hide_days=np.zeros(past.events, dtype=np.float32))
    fused.fusion = Fusion({**fused.fusion.weights, "repeat": 0.5, "repeat_neural": -0.8, "seen": 0.1})
    without = Fusion({**fused.fusion.weights, "repeat_neural": 0.0})
    parts, repeats = fused.parts(past), repeat_features(past, len(fused.catalogue))
    np.testing.assert_allclose(fused.score(past), fused.fusion.join(parts, repeats), atol=5e-5)
    had = repeats.users, repeats.items
    lost = fused.fusion.join(parts, repeats)[had] - without.join(parts, repeats)[had]
    np.testing.assert_allclose(lost, -0.8 * parts[NEURAL][had], atol=1e-5)


def test_a_scorer_gives_the_same_scores_batch_after_batch(fused: Recommender, past: Sequences) -> None:
    scorer = fused.scorer()
    whole = fused.score(past)
    for row in range(past.users):
        one = past.take_users([row])
        np.testing.assert_allclose(scorer.score(scorer.user_vectors(one), one)[0], whole[row], atol=1e-5)


def test_equal_scores_carry_no_information(recommender: Recommender, past: Sequences) -> None:
    recommender.text_vectors[:] = recommender.text_vectors[0]
    with torch.no_grad():
        recommender.items.ids.zero_()
    assert not recommender.score(past).any()
