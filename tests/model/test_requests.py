from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.errors import CheckpointError, ConfigurationError
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.fusion import LIKING, NEURAL, Fusion
from recsys.model.recommender import Recommender
from recsys.model.requests import item_phrases
from recsys.model.text_cache import LatestOutputCache
from recsys.model.untrained_encoder import untrained_encoder
from recsys.snapshot.item_text import item_description, item_text
from recsys.snapshot.sequences import Catalogue
from tests.small_models import EVENT_TYPES, histories, liked


def best(model: Recommender, request: str, count: int = 3) -> list[str]:
    """Return the items that match a request best."""
    found = model.match_requests([request])[0].topk(count).indices
    return [str(model.catalogue.item_ids[item]) for item in found.tolist()]


def test_phrases_are_attributes_description_and_title() -> None:
    catalogue = Catalogue.build(
        ["a", "b"],
        ["The Orbit", ""],
        ["Two people far from home.", ""],
        [{"genre": ["space", "drama"], "year": 1995, "cast": {"lead": "Ada"}}, {"genre": "space"}],
    )
    assert item_phrases(catalogue) == [
        ["space", "drama", "Ada", "Two people far from home", "The Orbit"],
        ["space"],
    ]


@pytest.mark.parametrize("title", ["The Orbit", "Ends with a dot.", ""])
@pytest.mark.parametrize("attributes", [{}, {"genre": ["space", "drama"], "year": 1995}])
def test_a_description_can_be_extracted_from_the_text(title: str, attributes: dict[str, object]) -> None:
    for description in ("Two people, far from home", ""):
        text = item_text(title, description, attributes)
        assert item_description(text, title, attributes) == description


def test_a_request_for_an_items_title_finds_it(recommender: Recommender) -> None:
    assert best(recommender, recommender.catalogue.titles[7], 1) == [recommender.catalogue.item_ids[7]]


def test_a_request_for_an_attribute_finds_the_items_that_have_it(recommender: Recommender) -> None:
    assert all(item.startswith("cooking") for item in best(recommender, "cooking"))


def test_an_item_without_phrases_matches_nothing(encoder_folder: Path, recommender: Recommender) -> None:
    silent = Catalogue.build(["silent", "loud"], ["", "rocket"])
    model = recommender.with_catalogue(silent)
    assert model.match_requests(["rocket"])[0].tolist()[0] == 0.0


@pytest.mark.parametrize("mode", ["frozen", "top_layers"])
def test_a_title_that_is_the_whole_text_is_encoded_once_unless_texts_are_trained(
    recommender: Recommender, mode: str
) -> None:
    title, colour = f"a lamp, {mode}", f"blue, {mode}"
    catalogue = Catalogue.build(["a", "b"], [title, f"a chair, {mode}"], None, [{}, {"colour": colour}])
    encoder = untrained_encoder(recommender.encoder, recommender.requests.max_tokens, "phrases")
    before = encoder.frozen_tokens
    settings = recommender.settings.model_copy(update={"fine_tuning": mode})
    model = Recommender.build(settings, catalogue, EVENT_TYPES)

    read = [f"a chair, {mode}", colour] if mode == "frozen" else [title, f"a chair, {mode}", colour]
    assert encoder.frozen_tokens - before == sum(map(len, encoder.tokens.tokenize(read)))
    assert model.request_vectors is not None
    torch.testing.assert_close(model.request_vectors, model.requests.item_vectors(catalogue))
    assert best(model, title, 1) == ["a"]


def test_request_vectors_move_with_their_items_to_another_catalogue(recommender: Recommender) -> None:
    own = recommender.catalogue
    order = [5, 0, 30]
    other = Catalogue.build(
        [*own.item_ids[order], "new", own.item_ids[1]],
        [own.titles[i] for i in order] + ["rocket and bread", "another title"],
        None,
        [*(own.attributes[i] for i in order), {"theme": "space"}, {"theme": "crime"}],
    )
    moved = recommender.with_catalogue(other)
    assert moved.request_vectors is not None
    torch.testing.assert_close(moved.request_vectors, moved.requests.item_vectors(other))


def test_request_vectors_and_trained_matching_survive_a_checkpoint(
    recommender: Recommender, tmp_path: Path
) -> None:
    recommender.requests.turn.normal_(std=0.1)
    save_recommender(recommender, tmp_path)
    loaded = load_recommender(tmp_path)
    for request in ("rocket and soup", "murder"):
        torch.testing.assert_close(loaded.match_requests([request]), recommender.match_requests([request]))


def test_an_older_checkpoint_answers_requests_after_with_catalogue(
    recommender: Recommender, tmp_path: Path
) -> None:
    recommender.request_fusion = Fusion({NEURAL: 1.0, LIKING: 0.1})
    save_recommender(recommender, tmp_path)
    (tmp_path / "answers.safetensors").unlink()
    older = load_recommender(tmp_path)
    past = histories(recommender.catalogue, liked("space-0"))
    assert np.isfinite(older.score(past)).all()
    with pytest.raises(CheckpointError, match="with_catalogue"):
        older.score(past, ["bread"])
    now = older.with_catalogue(recommender.catalogue)
    assert not np.allclose(now.score(past, ["bread"]), now.score(past))


def test_the_numbers_of_requests_and_users_must_be_equal(recommender: Recommender) -> None:
    past = histories(recommender.catalogue, liked("space-0"), liked("space-1"))
    with pytest.raises(ConfigurationError, match="1 requests were given for 2 users"):
        recommender.score(past, ["bread"])


def test_a_blank_request_is_no_request(recommender: Recommender) -> None:
    past = histories(recommender.catalogue, liked("space-0"))
    np.testing.assert_array_equal(recommender.score(past, ["  "]), recommender.score(past))


def test_a_request_with_other_spaces_is_the_same_request(recommender: Recommender) -> None:
    def counts() -> tuple[int, int]:
        return recommender.request_cache()

    recommender.match_requests(["a lamp for the garden"])
    hits, misses = counts()
    recommender.match_requests(["  a lamp\tfor the  garden "])
    assert counts() == (hits + 1, misses)
    recommender.match_requests(["a lamp for the gardener"])
    assert counts() == (hits + 1, misses + 1)


def test_vectors_of_the_latest_requests_stay_in_memory() -> None:
    cache = LatestOutputCache(max_bytes=2 * 2 * 4)  # two vectors of width 4
    for name in ("a", "b", "a", "c", "a", "b"):
        if cache.get(name) is None:
            cache.put(name, torch.ones(1, 4))
    assert (cache.hits, cache.misses) == (2, 4)
    cache.put("larger than the cache", torch.ones(9, 9))
    assert len(cache) == 2
