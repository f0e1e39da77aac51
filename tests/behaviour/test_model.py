"""Behaviour that every version of the model must show."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from recsys.columns import PURPOSES, Purpose
from recsys.model.ranking import mask_hidden, top_k
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Sequences
from recsys.training.micro import fit_micro
from tests.behaviour.conftest import Trained
from tests.behaviour.shop import GENRES, NEW, customers
from tests.small_models import RATING, disliked, explain, histories, liked

PAIRS = [("space", "cooking"), ("cooking", "crime"), ("crime", "garden"), ("garden", "space")]


def fans(trained: Trained, genre: str) -> Sequences:
    return histories(trained.catalogue, liked(*[f"{genre}-{number}" for number in (1, 4, 7)]))


@pytest.mark.parametrize("genre", list(GENRES))
def test_a_new_item_is_recommendable_from_its_text(trained: Trained, genre: str) -> None:
    past = fans(trained, genre)
    ranks = trained.ranks(mask_hidden(trained.model.score(past), past))
    others = [ranks[item] for item in NEW if not item.startswith(genre)]
    assert ranks[f"{genre}-new"] <= 15  # of 52
    assert ranks[f"{genre}-new"] < min(others)


@pytest.mark.parametrize(("genre", "other"), PAIRS)
def test_a_dislike_lowers_the_score_of_its_genre(trained: Trained, genre: str, other: str) -> None:
    start = liked(f"{genre}-1", f"{other}-2")
    past = histories(
        trained.catalogue,
        start,
        [*start, *liked(f"{genre}-3")],
        [*start, *disliked(f"{genre}-3")],
    )
    before, after_like, after_dislike = trained.mean_score(trained.model.score(past), genre)
    assert after_dislike < before < after_like


@pytest.mark.parametrize("genre", list(GENRES))
def test_a_low_rating_scores_its_genre_below_a_high_rating(trained: Trained, genre: str) -> None:
    past = histories(trained.catalogue, [(f"{genre}-3", RATING, 1.0)], [(f"{genre}-3", RATING, 5.0)])
    low, high = trained.mean_score(trained.model.score(past), genre)
    assert low < high


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_order_matters(trained: Trained, first: str, second: str) -> None:
    one, two = liked(f"{first}-2"), liked(f"{second}-2")
    scores = trained.model.score(histories(trained.catalogue, [*one, *two], [*two, *one]))
    preference = trained.mean_score(scores, second) - trained.mean_score(scores, first)
    assert preference[0] > preference[1]


def test_consumed_items_are_never_recommended_again(trained: Trained) -> None:
    past = trained.known.take_users(range(50))
    index, _ = top_k(mask_hidden(trained.model.score(past), past), 20)
    for user in range(past.users):
        seen = past.item_index[past.offsets[user] : past.offsets[user + 1]]
        assert not set(index[user].tolist()) & set(seen.tolist())


@pytest.mark.parametrize(
    ("request_text", "genre"),
    [
        ("something about rockets and planets", "space"),
        ("what shall I cook tonight?", "cooking"),
        ("a detective hunts a murderer", "crime"),
        ("flowers for my garden", "garden"),
    ],
)
def test_a_request_moves_recommendations_towards_it(trained: Trained, request_text: str, genre: str) -> None:
    others = [other for other in GENRES if other != genre]
    past = histories(trained.catalogue, *[liked(f"{other}-1", f"{other}-5") for other in others], [])
    plain, asked = trained.model.score(past), trained.model.score(past, [request_text] * past.users)
    assert (trained.mean_score(asked, genre) > trained.mean_score(plain, genre) + 0.2).all()


def test_a_user_without_history_gets_sensible_recommendations(trained: Trained) -> None:
    nobody = Sequences.empty(["somebody new"])
    scores = trained.model.score(nobody)
    assert np.isfinite(scores).all()
    assert scores.std() > 0
    assert explain(trained.model, nobody, top_k(scores, 3)[0]).sentences()[0][0] == "Popular with others"


def test_reasons_name_events_of_the_user(trained: Trained) -> None:
    past = fans(trained, "space")
    index, _ = top_k(mask_hidden(trained.model.score(past), past), 3)
    for sentence in explain(trained.model, past, index).sentences()[0]:
        assert any(GENRES["space"][number] in sentence for number in (1, 4, 7)), sentence


def test_a_micro_update_learns_fresh_feedback_and_keeps_old_behaviour(trained: Trained) -> None:
    """Fresh events: users who like Bread at Home continue with Lawn Care and a new garden book."""

    def purposed(sequences: Sequences, purpose: str) -> Sequences:
        code = PURPOSES.index(purpose)
        return replace(sequences, purpose=np.full(sequences.events, code, dtype=np.int8))

    trend = liked("cooking-0", "garden-4", "garden-new")
    old = customers(trained.catalogue, 120, seed=5)
    micro = Sequences.concat(
        [
            purposed(histories(trained.catalogue, *[trend] * 60), Purpose.FRESH),
            purposed(old.take_users(range(60)), Purpose.REPLAY),
            purposed(old.take_users(range(60, 120)), Purpose.GUARD),
        ]
    )
    updated = fit_micro(trained.model, micro, datetime(2100, 1, 1, tzinfo=UTC), trained.settings)

    def rank(model: Recommender) -> int:
        return trained.ranks(model.score(histories(trained.catalogue, liked("cooking-0"))))["garden-4"]

    assert rank(updated.model) < rank(trained.model)
    assert updated.metrics["guard_ndcg"] > 0.9 * updated.metrics["parent_guard_ndcg"]
    for genre in ("space", "crime"):
        past = fans(trained, genre)
        index, _ = top_k(mask_hidden(updated.model.score(past), past), 5)
        assert sum(str(trained.catalogue.item_ids[i]).startswith(genre) for i in index[0]) >= 3
