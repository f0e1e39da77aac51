"""What a publication has read is forgotten, and nothing else."""

import multiprocessing
from datetime import UTC, datetime, timedelta

import pytest

from recsys.publishing import active
from recsys.publishing.publish import publish
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.upkeep.key_rotation import rotate_user_keys
from recsys.validation.quarantine import release
from tests.publishing.shop import ITEMS, USERS, Shop, publish_and_hang_before_the_swap, refresh


@pytest.fixture
def published(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Version 1 is published for everybody."""
    monkeypatch.setattr(active, "load_servable", shop.load)
    publish(shop.engine, shop.settings, run_key="night", load=shop.load)
    return shop


def react(shop: Shop, user_id: str, *item_ids: str) -> None:
    shop.react(user_id, *item_ids, occurred_at=datetime.now(UTC) - timedelta(minutes=5))


def fresh(shop: Shop) -> list[tuple[str, str]]:
    rows = shop.rows("select user_id, item_id from fresh_feedback order by feedback_id")
    return [(row["user_id"], row["item_id"]) for row in rows]


def test_a_publication_forgets_what_it_has_read_and_keeps_what_came_later(published: Shop) -> None:
    react(published, USERS[3], ITEMS[0])
    published.close_window()
    react(published, USERS[4], ITEMS[1])
    publish(published.engine, published.settings, run_key="hour", load=published.load)
    assert fresh(published) == [(USERS[4], ITEMS[1])]
    refresh(published)
    assert fresh(published) == []


def test_what_the_list_of_a_user_has_not_read_is_kept(published: Shop) -> None:
    published.execute("insert into erasure_requests (user_id) values (:u)", {"u": USERS[5]})
    react(published, USERS[5], ITEMS[0])
    react(published, USERS[6], ITEMS[0])
    published.close_window()
    publish(published.engine, published.settings, run_key="hour", load=published.load)
    assert fresh(published) == [(USERS[5], ITEMS[0])]  # no list is made of who asks to be erased


def test_a_publication_that_is_killed_forgets_nothing(published: Shop) -> None:
    react(published, USERS[3], ITEMS[0])
    published.close_window()
    context = multiprocessing.get_context("spawn")
    reached = context.Event()
    process = context.Process(target=publish_and_hang_before_the_swap, args=(published.settings, reached))
    published.promote("2")
    process.start()
    assert reached.wait(60)
    process.kill()
    process.join()
    assert fresh(published) == [(USERS[3], ITEMS[0])]
    publish(published.engine, published.settings, run_key="hour", load=published.load)
    assert fresh(published) == []


def test_a_swap_does_not_wait_for_who_is_deleting_feedback(published: Shop) -> None:
    react(published, USERS[3], ITEMS[0])
    react(published, USERS[4], ITEMS[0])
    published.close_window()
    with published.engine.connect() as other:
        other.exec_driver_sql(f"delete from feedback where user_id = '{USERS[3]}' and item_id = '{ITEMS[0]}'")
        publish(published.engine, published.settings, run_key="hour", load=published.load)
        assert fresh(published) == [(USERS[3], ITEMS[0])]
        other.rollback()
    react(published, USERS[5], ITEMS[0])
    published.close_window()
    publish(published.engine, published.settings, run_key="next", load=published.load)
    assert fresh(published) == []


def test_an_erased_user_leaves_nothing_and_may_come_back(published: Shop) -> None:
    react(published, USERS[3], ITEMS[0])
    react(published, USERS[4], ITEMS[0])
    request_erasure(published.engine, USERS[3])
    erase_requested(published.engine, published.settings.snapshots)
    assert fresh(published) == [(USERS[4], ITEMS[0])]
    react(published, USERS[3], ITEMS[1])
    assert fresh(published) == [(USERS[4], ITEMS[0]), (USERS[3], ITEMS[1])]


def test_other_pseudonyms_change_nothing(published: Shop) -> None:
    react(published, USERS[3], ITEMS[0])
    rotate_user_keys(published.engine, published.settings)
    assert fresh(published) == [(USERS[3], ITEMS[0])]


def test_a_row_in_quarantine_does_not_count_until_it_is_released(published: Shop) -> None:
    react(published, USERS[3], ITEMS[0], "an unknown item")
    refresh(published)  # validates what has arrived
    held = published.rows("select quarantine_id from quarantine")
    assert len(held) == 1
    assert fresh(published) == []
    release(published.engine, held[0]["quarantine_id"], settled_by="tests")
    assert fresh(published) == [(USERS[3], "an unknown item")]
