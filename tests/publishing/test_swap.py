"""What readers see while a publication replaces another, whatever happens meanwhile."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import PublicationConflictError
from recsys.publishing import publish as publish_module
from recsys.publishing.publish import publish
from recsys.publishing.servable import Servable
from recsys.settings import Settings
from tests.publishing.shop import USERS, Shop, publish_and_hang_before_the_swap


def test_a_user_erased_while_scoring_does_not_come_back(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def erase(*arguments: Any) -> Any:
        shop.execute("delete from feedback where user_id = :u", {"u": USERS[4]})
        shop.execute("delete from users where user_id = :u", {"u": USERS[4]})
        return swap(*arguments)

    swap = publish_module.swap
    monkeypatch.setattr(publish_module, "swap", erase)
    assert shop.publish().users == len(USERS) - 1
    assert USERS[4] not in shop.lists()
    assert USERS[4] not in shop.vectors("user_vectors", "user_id")


def test_a_user_being_erased_during_the_swap_does_not_come_back(shop: Shop) -> None:
    with shop.engine.connect() as erasing:
        erasing.execute(sa.text("delete from users where user_id = :u"), {"u": USERS[4]})
        publisher = threading.Thread(target=shop.publish)
        publisher.start()
        # The swap waits for the row of the user who is being erased.
        publisher.join(2)
        assert publisher.is_alive()
        erasing.commit()
        publisher.join()
    assert shop.lists().keys() == set(USERS) - {USERS[4]}
    assert shop.vectors("user_vectors", "user_id").keys() == shop.lists().keys()


def test_a_reader_sees_one_version_everywhere_at_any_moment(shop: Shop) -> None:
    shop.publish()
    seen: set[tuple[str, ...]] = set()
    stop = threading.Event()

    def poll() -> None:
        statement = sa.text(
            "select array(select distinct model_version from recommendation_lists)"
            " || array(select distinct model_version from user_vectors)"
            " || array(select distinct model_version from item_vectors)"
            " || array(select model_version from publications order by publication_id desc limit 1)"
        )
        engine = sa.create_engine(shop.engine.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            while not stop.is_set():
                seen.add(tuple(connection.scalar(statement)))
        engine.dispose()

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        for version in ("2", "3", "4"):
            shop.promote(version)
            shop.publish(version)
    finally:
        time.sleep(0.05)
        stop.set()
        reader.join()
    assert seen <= {(version,) * 4 for version in "1234"}
    assert ("4",) * 4 in seen


def test_killed_before_the_swap_the_old_lists_stay_and_the_next_run_succeeds(shop: Shop) -> None:
    shop.publish()
    before = shop.rows("select * from recommendation_lists order by user_id")
    shop.promote("2")
    context = multiprocessing.get_context("spawn")
    reached = context.Event()
    process = context.Process(target=publish_and_hang_before_the_swap, args=(shop.settings, reached))
    process.start()
    assert reached.wait(30)
    process.kill()
    process.join()
    assert shop.rows("select * from recommendation_lists order by user_id") == before
    assert shop.publish("killed").model_version == "2"


def test_a_failure_inside_the_swap_leaves_everything_as_it_was(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish()
    before = shop.rows("select * from recommendation_lists order by user_id")
    shop.promote("2")
    with monkeypatch.context() as patched:
        patched.setattr(publish_module, "SWAP", (*publish_module.SWAP[:-1], "no_such_statement"))
        with pytest.raises(Exception, match="no_such_statement"):
            shop.publish("second")
    assert shop.rows("select * from recommendation_lists order by user_id") == before
    assert [row["run_key"] for row in shop.rows("select run_key from publications")] == ["first"]
    assert shop.publish("second").model_version == "2"


def _promoting(shop: Shop, *versions: str) -> Callable[[Settings, str], Servable]:
    """Return a loader that promotes the next version each time it loads one."""
    pending = list(versions)

    def load(settings: Settings, version: str) -> Servable:
        servable = shop.load(settings, version)
        if pending:
            shop.promote(pending.pop(0))
        return servable

    return load


def test_a_champion_that_changes_while_scoring_is_published_instead(shop: Shop) -> None:
    summary = publish(shop.engine, shop.settings, run_key="r", load=_promoting(shop, "2"))
    assert summary.model_version == "2"
    assert shop.versions("recommendation_lists") == {"2"}


def test_a_champion_that_keeps_changing_is_a_conflict_to_retry(shop: Shop) -> None:
    with pytest.raises(PublicationConflictError) as caught:
        publish(shop.engine, shop.settings, run_key="r", load=_promoting(shop, "2", "3"))
    assert caught.value.retryable
    assert shop.lists() == {}


def test_only_one_publication_runs_at_a_time(shop: Shop) -> None:
    inside = 0
    most = 0
    guard = threading.Lock()

    def slow(settings: Settings, version: str) -> Servable:
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        time.sleep(0.2)
        with guard:
            inside -= 1
        return shop.load(settings, version)

    def start(run_key: str) -> None:
        publish(shop.engine, shop.settings, scope="all", run_key=run_key, load=slow)

    threads = [threading.Thread(target=start, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert {row["run_key"] for row in shop.rows("select run_key from publications")} == {"a", "b", "c"}
    assert set(shop.publications().values()) == {3}
