"""Appeal of items: answers in shown lists over those that the places let expect."""

from pathlib import Path

import numpy as np
import pytest

from recsys.model.appeal import PRIOR, Appeal, place_rates
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.fusion import APPEAL, NEURAL, Fusion
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue
from recsys.snapshot.slates import UNANSWERED, Slates
from tests.small_models import theme_world

Shown = tuple[str, list[int], list[int]]
"""User, items by position, and those that were answered."""


def slates(*lists: Shown) -> Slates:
    """Build slates a minute apart, answered at once."""
    items = np.concatenate([shown for _, shown, _ in lists]).astype(np.int64)
    sizes = [len(shown) for _, shown, _ in lists]
    at = np.arange(len(lists)) * 60_000_000
    answered = np.concatenate([np.isin(shown, clicked) for _, shown, clicked in lists])
    return Slates(
        user_keys=np.array([user for user, _, _ in lists], dtype=object),
        shown_at=at,
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        items=items,
        place=np.concatenate([np.arange(size) for size in sizes]),
        answered_at=np.where(answered, np.repeat(at, sizes), UNANSWERED),
        requests=np.full(len(lists), "", dtype=object),
    )


def many(users: int, shown: list[int], clicked: list[int], name: str = "user") -> list[Shown]:
    return [(f"{name} {number}", shown, clicked) for number in range(users)]


def test_what_is_passed_over_has_less_appeal_than_what_is_not_shown() -> None:
    score = Appeal.fit(slates(*many(50, [0, 1], [0]), *many(50, [1, 0], [0], "other")), 3).score()
    assert score[0] > 0 > score[1]
    assert score[2] == 0


def test_a_few_lists_say_little() -> None:
    background = many(100, [3, 4], [3])
    once = Appeal.fit(slates(("ann", [0, 4], [0]), *background), 5).score()[0]
    often = Appeal.fit(slates(*many(50, [0, 4], [0], "fan"), *background), 5).score()[0]
    assert 0 < once < often / 2


def test_a_good_place_is_not_appeal() -> None:
    # Everybody answers whatever is first: items 0 and 1 are alike, but 0 was mostly first.
    lists = many(90, [0, 1], [0]) + many(10, [1, 0], [1], "other")
    appeal = Appeal.fit(slates(*lists), 2)
    assert appeal.answers[0] > 5 * appeal.answers[1]
    assert abs(appeal.score()[0] - appeal.score()[1]) < 0.25


def test_a_place_on_another_page_is_another_place() -> None:
    home, mail = slates(*many(40, [0, 1], [0])), slates(*many(40, [0, 1], [], "reader"))
    both = Slates(
        np.concatenate([home.user_keys, mail.user_keys]), np.concatenate([home.shown_at, mail.shown_at]),
        np.append(home.offsets, home.offsets[-1] + mail.offsets[1:]),
        np.concatenate([home.items, mail.items]), np.concatenate([home.place, mail.place + 100]),
        np.concatenate([home.answered_at, mail.answered_at]), np.append(home.requests, mail.requests),
    )  # fmt: skip
    rates = place_rates(both)
    assert rates[0] > 0.9 > 0.1 > rates[100]


def test_a_bot_with_most_lists_and_answers_counts_as_one_user() -> None:
    people = many(50, [0, 1], [0])
    bot: list[Shown] = [("bot", [0, 1], [1])] * 5_000
    before, after = (Appeal.fit(slates(*lists), 2) for lists in (people, people + bot))
    assert after.answers[1] - before.answers[1] == pytest.approx(1)
    assert after.score()[0] > 0 > after.score()[1]


def test_items_that_are_not_in_the_catalogue_are_left_out() -> None:
    appeal = Appeal.fit(slates(*many(20, [-1, 1], [-1])), 2)
    assert appeal.answers.tolist() == [0, 0]
    assert appeal.expected[0] == 0


def test_no_answer_at_all_and_no_list_at_all_say_nothing() -> None:
    assert not Appeal.fit(slates(*many(20, [0, 1], [])), 2).score().any()
    nothing = slates(*many(1, [0], [])).take(np.zeros(0, dtype=np.int64))
    assert not Appeal.fit(nothing, 2).score().any()


def test_later_lists_and_later_answers_are_not_known_before() -> None:
    lists = slates(("ann", [0, 1], [0]), ("bob", [0, 1], [1]))
    lists.answered_at[0] = 90_000_000
    early = lists.before(60_000_000)
    assert (len(early), early.answered.any()) == (1, False)
    assert len(lists.before(60_000_001)) == 2


@pytest.fixture
def shown(recommender: Recommender, catalogue: Catalogue) -> Recommender:
    """A recommender that knows the appeal of two items."""
    answers, expected = np.zeros((2, len(catalogue)))
    answers[[3, 5]], expected[[3, 5]] = [9, 0], [2, 12]
    recommender.appeal = Appeal(answers, expected)
    for name in ("fusion", "returning_fusion", "request_fusion"):
        setattr(recommender, name, Fusion({NEURAL: 1.0, APPEAL: 0.7}))
    return recommender


@pytest.mark.parametrize("requests", [None, ["", "rocket", ""]], ids=["plain", "asked"])
def test_appeal_is_added_to_the_score_of_everybody(
    shown: Recommender, catalogue: Catalogue, requests: list[str] | None
) -> None:
    past = theme_world(catalogue, users=3)
    with_appeal = shown.score(past, requests)
    assert shown.appeal is not None
    added = 0.7 * shown.appeal.score()
    assert added[3] == pytest.approx(0.7 * np.log((9 + PRIOR) / (2 + PRIOR)))
    shown.appeal = None
    np.testing.assert_allclose(with_appeal, shown.score(past, requests) + added, atol=2e-5)


def test_appeal_moves_with_the_catalogue_and_through_a_checkpoint(
    shown: Recommender, catalogue: Catalogue, tmp_path: Path
) -> None:
    moved = shown.with_catalogue(catalogue.take([5, 3, 0]))
    assert moved.appeal is not None
    assert (moved.appeal.answers.tolist(), moved.appeal.expected.tolist()) == ([0, 9, 0], [12, 2, 0])
    save_recommender(shown, tmp_path)
    loaded = load_recommender(tmp_path)
    past = theme_world(catalogue, users=3)
    np.testing.assert_array_equal(loaded.score(past), shown.score(past))
