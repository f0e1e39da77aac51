"""What people asked for in words becomes a way to find what they chose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.model.checkpoint import save_recommender
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue
from recsys.snapshot.slates import UNANSWERED, Slates
from recsys.training.answered_requests import add_answered_requests
from tests.small_models import EVENT_TYPES, small_settings, theme_catalogue

Answer = tuple[str, str, int]
"""User, request, and the item that was chosen."""
WANTED = {"alibi bread": 3, "comet chef": 11, "thief soup": 20, "oven orbit": 30}
"""Requests that say nothing of the items' themes."""


def asked(*answers: Answer) -> Slates:
    """Return a list of one item for each answer."""
    moments = np.arange(len(answers)) * 60_000_000
    return Slates(
        user_keys=np.array([user for user, _, _ in answers], dtype=object),
        shown_at=moments,
        offsets=np.arange(len(answers) + 1),
        items=np.array([item for _, _, item in answers], dtype=np.int64),
        place=np.zeros(len(answers), dtype=np.int64),
        answered_at=moments,
        requests=np.array([request for _, request, _ in answers], dtype=object),
    )


def people(number: int = 60) -> list[Answer]:
    """Return users who each ask for one of the wanted items."""
    wanted = list(WANTED.items())
    return [(f"user {n:03}", *wanted[n % len(wanted)]) for n in range(number)]


@pytest.fixture(params=["with words", "without words"])
def model(request: pytest.FixtureRequest, encoder_folder: Path, tmp_path: Path) -> Recommender:
    """Films, and spare parts that have only numbers."""
    catalogue = theme_catalogue()
    if request.param == "without words":
        catalogue = Catalogue.build(catalogue.item_ids.tolist(), [""] * len(catalogue))
    return Recommender.build(small_settings(tmp_path, encoder_folder).model, catalogue, EVENT_TYPES)


def vectors(model: Recommender) -> torch.Tensor:
    assert model.request_vectors is not None
    return model.request_vectors


def place(model: Recommender, request: str) -> int:
    """Return the place of the wanted item, from 1; ties count against it."""
    logits = model.match_requests([request])[0]
    return int((logits >= logits[WANTED[request]]).sum())


def test_an_item_is_found_by_what_people_asked_for_when_they_chose_it(model: Recommender) -> None:
    before = [place(model, request) for request in WANTED]
    figures = add_answered_requests(model, asked(*people()), 10)
    # The tiny encoder hardly tells texts apart.
    assert max(place(model, request) for request in WANTED) <= 3 < max(before)
    assert figures["answered_request_users"] == 60
    assert figures["answered_request_gain"] > 0.3


@pytest.mark.parametrize("model", ["with words"], indirect=True)
def test_requests_that_do_not_help_others_change_nothing(model: Recommender) -> None:
    rng = np.random.default_rng(0)
    words, n_items = list(WANTED), len(model.catalogue)
    noise = [(f"user {n:03}", words[rng.integers(4)], int(rng.integers(n_items))) for n in range(90)]
    before = vectors(model).clone()
    assert add_answered_requests(model, asked(*noise), 10)["answered_request_gain"] < 0.05
    assert torch.equal(vectors(model), before)


def test_the_request_of_a_single_user_is_not_learned(model: Recommender) -> None:
    before = vectors(model).clone()
    alone: list[Answer] = [("user 000", "detective police", 8), ("user 000", "nebula", 8)]
    add_answered_requests(model, asked(*people(), *alone), 10)
    changed = (vectors(model) != before).any(1).nonzero()[:, 0].tolist()
    assert changed == sorted(WANTED.values())


def test_a_bot_counts_as_one_user(model: Recommender) -> None:
    bot: list[Answer] = [("bot", "detective police", 3)] * 500
    add_answered_requests(model, asked(*people(), *bot), 10)
    assert place(model, "alibi bread") <= 3


@pytest.mark.parametrize(
    "kind", ["none", "without requests", "of few users", "unanswered", "of unknown items"]
)
def test_too_few_answers_change_nothing(model: Recommender, kind: str) -> None:
    slates = asked(*people())
    changed: Slates | None = {
        "none": None,
        "without requests": replace(slates, requests=np.full(len(slates), "", dtype=object)),
        "of few users": slates.take(np.arange(20)),
        "unanswered": replace(slates, answered_at=np.full(len(slates), UNANSWERED)),
        "of unknown items": replace(slates, items=np.full(len(slates), -1)),
    }[kind]
    before = vectors(model).clone()
    assert add_answered_requests(model, changed, 10) == {}
    assert torch.equal(vectors(model), before)


def test_a_checkpoint_has_no_word_of_a_request(model: Recommender, tmp_path: Path) -> None:
    add_answered_requests(model, asked(*people()), 10)
    save_recommender(model, tmp_path / "saved")
    files = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files for request in WANTED if request.encode() in path.read_bytes()]
