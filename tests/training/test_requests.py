"""Training the match of requests: each phrase is matched with the other phrases of its items."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue
from recsys.training.requests import PhraseTable, fit_requests
from tests.small_models import EVENT_TYPES, THEMES, small_settings

BESIDES = ["bread", "rocket", "alibi", "soup", "planet", "thief", "oven", "orbit"]
TAGS = {
    theme: [f"{before} {theme} {after}" for before, after in itertools.combinations(BESIDES, 2)][::3]
    for theme in THEMES
}


@pytest.fixture
def tagged() -> Catalogue:
    """Items with three tags of their theme; only one of a tag's three words depends on the theme."""
    items = [
        (f"{theme}-{n}", list(tags))
        for theme, own in TAGS.items()
        for n, tags in enumerate(itertools.combinations(own, 3))
    ]
    return Catalogue.build([i for i, _ in items], [""] * len(items), None, [{"tags": t} for _, t in items])


@pytest.fixture
def model(encoder_folder: Path, tagged: Catalogue, tmp_path: Path) -> Recommender:
    return Recommender.build(small_settings(tmp_path, encoder_folder).model, tagged, EVENT_TYPES)


def test_training_improves_the_match_of_words_that_no_item_has(model: Recommender) -> None:
    losses = fit_requests(model, 200)
    assert losses["request_loss"] < losses["request_loss_untrained"] - 0.05, "on tags kept apart"
    assert model.requests.turn.any()


def test_training_that_ranks_held_out_words_worse_is_discarded(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random encoder sees no similarity between the words of a theme, so nothing generalises."""
    tags = [{"tags": list(words)} for own in THEMES.values() for words in itertools.combinations(own[:6], 3)]
    names = [f"i{n}" for n in range(len(tags))]
    catalogue = Catalogue.build(names, [""] * len(names), None, tags)
    model = Recommender.build(small_settings(tmp_path, encoder_folder).model, catalogue, EVENT_TYPES)
    monkeypatch.setattr("recsys.training.requests._MIN_VALUES", 18)
    losses = fit_requests(model, 200)
    assert losses["request_loss"] > losses["request_loss_untrained"]
    assert not model.requests.turn.any()


def test_a_phrase_is_matched_as_if_no_item_had_it(model: Recommender) -> None:
    table = PhraseTable(model.requests, model.catalogue)
    assert model.request_vectors is not None
    row = table.phrases.index(TAGS["space"][0])
    logits = table.match(model.requests, np.array([row]), model.request_vectors)[0]
    for item, attributes in enumerate(model.catalogue.attributes):
        others = [table.phrases.index(word) for word in attributes["tags"] if word != TAGS["space"][0]]
        answer = table.vectors[others].sum(0) / len(attributes["tags"]) ** 0.5
        expected = model.requests.scale * table.vectors[row] @ answer
        assert logits[item] == pytest.approx(float(expected), abs=1e-4)


def test_rare_attribute_values_are_drawn_more_often(model: Recommender) -> None:
    catalogue = Catalogue.build(
        [f"i{n}" for n in range(40)],
        [f"title {n}" for n in range(40)],
        None,
        [{"kind": "soup", "own": "rocket"}, *({"kind": "soup"} for _ in range(38)), {}],
    )
    table = PhraseTable(model.requests, catalogue)
    asked = table.sample_phrases(np.array([0] * 100 + [1, 39]), seed=0)
    words = [table.phrases[row] for row in asked[:100]]
    assert words.count("rocket") > 80
    assert "soup" in words
    assert table.phrases[asked[100]] == "soup"
    assert asked[101] == -1, "a title would give the item away"


def test_a_catalogue_without_phrases_is_not_learned_from(encoder_folder: Path, tmp_path: Path) -> None:
    silent = Catalogue.build(["a", "b"], ["", ""])
    model = Recommender.build(small_settings(tmp_path, encoder_folder).model, silent, EVENT_TYPES)
    assert fit_requests(model, 10) == {}


def test_a_few_attribute_values_are_not_learned_from(encoder_folder: Path, tmp_path: Path) -> None:
    kinds = Catalogue.build(
        [f"i{n}" for n in range(90)],
        [f"title {n}" for n in range(90)],
        None,
        [{"kind": f"{n % 20}"} for n in range(90)],
    )
    model = Recommender.build(small_settings(tmp_path, encoder_folder).model, kinds, EVENT_TYPES)
    assert fit_requests(model, 10) == {}


def test_without_steps_the_matcher_stays_untrained(model: Recommender) -> None:
    assert fit_requests(model, 0) == {}
    assert not model.requests.turn.any()


def test_a_sample_of_a_large_catalogue_is_learned_from(
    model: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.training.requests.MAX_ITEMS", 120)
    assert fit_requests(model, 20).keys() == {"request_loss", "request_loss_untrained"}
    assert torch.isfinite(model.requests.turn).all()
