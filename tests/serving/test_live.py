"""What somebody does changes what they see next, without a publication in between."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.serving.conftest import Shop

THRILLERS = [f"thriller-{n}" for n in range(6)]
COMEDIES = [f"comedy-{n}" for n in range(30)]


@pytest.fixture
def cinema(shop: Shop) -> Shop:
    """Thrillers come last in Ada's pool; films of a genre have vectors that point in one direction."""
    shop.add_items(*THRILLERS, *COMEDIES)
    shop.vectors(
        **{name.replace("-", "_"): [5.0, 1.0 + n / 100, 0.1] for n, name in enumerate(THRILLERS)},
        **{name.replace("-", "_"): [5.0, -1.0, n / 100] for n, name in enumerate(COMEDIES)},
    )
    shop.add_user("ada")
    shop.publish("ada", *COMEDIES, *THRILLERS[2:])
    shop.share("trending", *COMEDIES)
    return shop


def thrillers(items: list[str]) -> int:
    return sum(item in THRILLERS for item in items)


def test_two_views_of_thrillers_raise_thrillers_at_once(cinema: Shop) -> None:
    assert thrillers(cinema.shown("ada")) == 0
    cinema.react("ada", "view", *THRILLERS[:2])
    rows = cinema.recommend("ada")
    assert thrillers([row["item_id"] for row in rows]) == 4
    raised = [row for row in rows if row["item_id"] in THRILLERS]
    assert {row["source"] for row in raised} == {"live"}
    assert {row["reason"] for row in raised} == {"Similar to what you just chose"}
    assert {row["model_version"] for row in rows} == {"7"}


def test_a_dislike_lowers_what_is_like_it_at_once(cinema: Shop) -> None:
    cinema.publish("ada", "thriller-2", *COMEDIES, *THRILLERS[3:])
    assert cinema.shown("ada")[0] == "thriller-2"
    cinema.react("ada", "dislike", "thriller-0")
    assert "thriller-2" not in cinema.shown("ada", k=3)
    cinema.react("ada", "rating", "thriller-1", value=0.5)
    assert "thriller-2" not in cinema.shown("ada", k=5)


def test_nothing_changes_for_others_nor_where_a_placement_is_not_live(cinema: Shop) -> None:
    cinema.add_user("bob")
    cinema.publish("bob", *COMEDIES)
    cinema.react("ada", "view", *THRILLERS[:2])
    assert cinema.shown("bob") == COMEDIES[:10]
    cinema.execute("update placements set live = false where placement = 'home'")
    assert cinema.shown("ada") == COMEDIES[:10]


def test_who_refuses_consent_gets_no_live_order_but_what_they_had_disappears(cinema: Shop) -> None:
    cinema.execute("update users set consent = false")
    cinema.react("ada", "view", *THRILLERS[:2], COMEDIES[0])
    assert cinema.shown("ada") == COMEDIES[1:11]


def test_a_publication_that_has_read_the_reaction_ends_its_effect(cinema: Shop) -> None:
    cinema.react("ada", "view", *THRILLERS[:2])
    cinema.publish("ada", *COMEDIES, *THRILLERS[2:])
    assert cinema.shown("ada") == COMEDIES[:10]


def test_a_visitors_third_click_gives_a_personal_list(cinema: Shop) -> None:
    cinema.react(None, "click", *THRILLERS[:2], session_id="s-1")
    assert thrillers(cinema.shown(None, session="s-1", k=3)) == 0
    cinema.react(None, "click", THRILLERS[2], session_id="s-1")
    rows = cinema.recommend(None, session="s-1", k=3)
    assert [row["source"] for row in rows] == ["live"] * 3
    assert thrillers([row["item_id"] for row in rows]) == 3
    assert not set(THRILLERS[:3]) & {row["item_id"] for row in rows}


def test_a_joined_session_is_its_user_and_another_session_is_not(cinema: Shop) -> None:
    cinema.react(None, "view", *THRILLERS[:3], session_id="s-1")
    cinema.execute("select join_session('s-1', 'ada')")
    assert thrillers(cinema.shown("ada")) == 3
    assert cinema.shown(None, session="s-1") == cinema.shown("ada")
    assert {row["source"] for row in cinema.recommend(None, session="s-2")} == {"trending"}


def test_who_names_the_session_of_somebody_else_changes_their_own_list_only(cinema: Shop) -> None:
    cinema.execute("select join_session('s-1', 'ada')")
    cinema.add_user("bob")
    cinema.publish("bob", *COMEDIES, *THRILLERS[3:])
    cinema.react("bob", "view", *THRILLERS[:3], session_id="s-1")
    assert cinema.shown("ada") == COMEDIES[:10]
    assert cinema.shown(None, session="s-1") == COMEDIES[:10]
    assert thrillers(cinema.shown("bob")) == 3


def test_reactions_to_items_without_vectors_leave_the_order(cinema: Shop) -> None:
    cinema.add_items("unseen")
    cinema.react("ada", "view", "unseen", "deleted")
    assert cinema.shown("ada") == COMEDIES[:10]
    cinema.execute("truncate item_vectors")
    cinema.react("ada", "view", *THRILLERS[:3])
    assert cinema.shown("ada") == COMEDIES[:10]
    cinema.react(None, "click", *THRILLERS[:3], session_id="s-1")
    assert cinema.shown(None, session="s-1", k=3) == COMEDIES[:3]


def test_vectors_without_length_and_of_one_direction_do_no_harm(cinema: Shop) -> None:
    cinema.execute("update item_vectors set vector = '[0,0,0]' where item_id like 'thriller%'")
    cinema.react("ada", "view", *THRILLERS[:2])
    assert cinema.shown("ada") == COMEDIES[:10]
    cinema.execute("update item_vectors set vector = '[1,1,1]'")
    assert cinema.shown("ada") == COMEDIES[:10]


def test_reactions_that_happened_long_ago_or_are_nonsense_do_not_move_anything(cinema: Shop) -> None:
    cinema.react("ada", "view", *THRILLERS[:2], occurred_at=datetime.now(UTC) - timedelta(days=30))
    cinema.react("ada", "no such type", *THRILLERS[:2])
    assert thrillers(cinema.shown("ada", k=3)) == 0


def test_the_last_hundred_reactions_cost_no_more_than_fifty_and_change_the_order(cinema: Shop) -> None:
    cinema.execute(
        "insert into feedback (user_id, item_id, event_type) select 'ada', 'thriller-0', 'view'"
        " from generate_series(1, 5000)"
    )
    assert thrillers(cinema.shown("ada")) == 4
