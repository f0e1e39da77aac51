"""What readers see before, during and after a publication."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, NothingToDoError, PublicationConflictError, RegistryError
from recsys.publishing import publish as publish_module
from recsys.publishing.histories import read_catalogue
from recsys.publishing.publish import PublishSummary, publish
from recsys.publishing.servable import Servable
from recsys.settings import PublishingSettings, Settings
from tests.publishing.shop import (
    DIM,
    ITEMS,
    START,
    UNAVAILABLE,
    USERS,
    FakeRecommender,
    K,
    Shop,
    explain,
    publish_and_hang_before_the_swap,
)


def run(shop: Shop, run_key: str = "first", scope: Any = "auto") -> PublishSummary:
    return publish(shop.engine, shop.settings, scope=scope, run_key=run_key, load=shop.load)


def publication_of(shop: Shop) -> dict[str, int]:
    rows = shop.rows("select user_id, publication_id from recommendation_lists")
    return {row["user_id"]: row["publication_id"] for row in rows}


def versions(shop: Shop, table: str) -> set[str]:
    return {row["model_version"] for row in shop.rows(f"select model_version from {table}")}


def vectors(shop: Shop, table: str, key: str) -> dict[str, np.ndarray]:
    rows = shop.rows(f"select {key} as id, vector::real[] as vector from {table} order by id")
    return {row["id"]: np.array(row["vector"], dtype=np.float32) for row in rows}


def test_every_user_gets_the_best_items_that_are_new_and_available(shop: Shop) -> None:
    summary = run(shop)
    assert (summary.model_version, summary.scope, summary.users, summary.items) == ("1", "all", 40, 28)
    lists, consumed = shop.lists(), shop.consumed()
    assert lists.keys() == set(USERS)
    with shop.engine.connect() as connection:
        model = FakeRecommender(shop.event_types()).with_catalogue(read_catalogue(connection))
    item_vectors = model.item_vectors
    users = vectors(shop, "user_vectors", "user_id")
    for user_id, items in lists.items():
        scores = dict(zip(ITEMS, (item_vectors @ users[user_id]).tolist(), strict=True))
        allowed = [item for item in ITEMS if item not in UNAVAILABLE and item not in consumed[user_id]]
        assert items == sorted(allowed, key=lambda item: -scores[item])[:K]


def test_rows_say_rank_score_propensity_reason_and_version(shop: Shop) -> None:
    run(shop)
    rows = shop.rows("select * from recommendations where user_id = :u order by rank", u=USERS[1])
    assert [row["item_id"] for row in rows] == shop.lists()[USERS[1]]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert sorted((row["score"] for row in rows), reverse=True) == [row["score"] for row in rows]
    assert {row["propensity"] for row in rows} == {1.0}
    assert [row["reason"] for row in rows] == [f'version 1 likes "{row["item_id"].title()}"' for row in rows]


def test_vectors_in_postgres_are_the_models(shop: Shop) -> None:
    run(shop)
    with shop.engine.connect() as connection:
        model = FakeRecommender(shop.event_types()).with_catalogue(read_catalogue(connection))
    found = vectors(shop, "item_vectors", "item_id")
    available = [number for number, item in enumerate(ITEMS) if item not in UNAVAILABLE]
    assert list(found) == [ITEMS[number] for number in available]
    assert np.array_equal(np.stack(list(found.values())), model.item_vectors[available])
    users = vectors(shop, "user_vectors", "user_id")
    assert users.keys() == set(USERS)
    # A user without history has the vector of no history.
    assert users[USERS[0]].tolist() == [1.0] * DIM
    nearest = (
        "select item_id from item_vectors order by vector <=> (select avg(vector) from user_vectors) limit 1"
    )
    assert len(shop.rows(nearest)) == 1


def test_a_user_who_has_consumed_almost_everything_gets_a_short_list(shop: Shop) -> None:
    shop.react(USERS[5], *ITEMS[:-2])
    shop.react(USERS[6], *ITEMS)
    run(shop)
    assert sorted(shop.lists()[USERS[5]]) == sorted(set(ITEMS[-2:]) - shop.consumed()[USERS[5]])
    assert shop.lists()[USERS[6]] == []


def test_items_consumed_before_the_events_that_the_model_reads_stay_out(shop: Shop) -> None:
    run(shop, "first")
    favourites = shop.lists()[USERS[9]]
    shop.react(USERS[9], *favourites, *ITEMS[10:20], hours=1)
    run(shop, "second", "all")
    assert not set(shop.lists()[USERS[9]]) & shop.consumed()[USERS[9]]


def test_a_second_call_with_the_same_run_key_changes_nothing(shop: Shop) -> None:
    first = run(shop)
    shop.promote("2")
    again = run(shop)
    assert replace(again, seconds=0) == replace(first, seconds=0)
    assert versions(shop, "recommendation_lists") == {"1"}


def test_without_a_champion_there_is_nothing_to_do(empty_shop: Shop) -> None:
    with pytest.raises(NothingToDoError, match="no champion"):
        run(empty_shop)


def test_without_items_there_is_nothing_to_do(empty_shop: Shop) -> None:
    empty_shop.promote("1")
    with pytest.raises(NothingToDoError, match="no items"):
        run(empty_shop)


def test_reasons_are_in_the_language_of_each_user(shop: Shop) -> None:
    asked = dict(zip(USERS, ["de-AT", "zh", "fr", None, 7, ["de"], "'; --"], strict=False))
    for user, language in asked.items():
        shop.speak(user, language)
    run(shop)
    found = {row["user_id"]: row for row in shop.rows("select * from recommendation_lists")}
    assert [found[user]["language"] for user in asked] == ["de", "zh", "en", "en", "en", "en", "en"]
    assert all(reason.endswith('" in de') for reason in found[USERS[0]]["reasons"])
    assert all(reason.endswith('"') for reason in found[USERS[2]]["reasons"])


def test_a_new_title_renews_reasons_in_each_language(shop: Shop) -> None:
    shop.execute("update items set title = '' where item_id = :i", {"i": ITEMS[20]})
    run(shop)
    german = "Weil du Artikel item 20 gekauft hast"
    shop.execute(
        "update recommendation_lists set reasons = jsonb_build_array(cast(:r as text))", {"r": german}
    )
    shop.execute("update items set title = 'Twenty' where item_id = :i", {"i": ITEMS[20]})
    run(shop, "second")
    assert german not in str(shop.rows("select reasons from recommendation_lists"))


def test_items_are_published_without_users_for_search_by_vector(empty_shop: Shop) -> None:
    empty_shop.add_items(*ITEMS)
    empty_shop.promote("1")
    assert (run(empty_shop).users, run(empty_shop).items) == (0, len(ITEMS) - len(UNAVAILABLE))


def test_fresh_feedback_changes_the_lists_of_its_users_only(shop: Shop) -> None:
    first = run(shop)
    shop.react(USERS[2], ITEMS[20], hours=1)
    shop.add_users("newcomer")
    shop.promote("2", kind="micro", parent="1")
    second = run(shop, "second")
    assert (second.scope, second.users, second.model_version) == ("affected", 2, "2")
    changed = {user for user, number in publication_of(shop).items() if number == second.publication_id}
    assert changed == {USERS[2], "newcomer"}
    assert set(publication_of(shop).values()) == {first.publication_id, second.publication_id}
    assert versions(shop, "item_vectors") == {"2"}


def test_users_with_unvalidated_feedback_are_published_again_after_validation(shop: Shop) -> None:
    shop.react(USERS[2], ITEMS[20], hours=1)
    run(shop)
    shop.close_window()
    assert run(shop, "second").users == 1
    with pytest.raises(NothingToDoError, match="no user has feedback newer"):
        run(shop, "third")


def test_an_item_that_went_out_of_stock_leaves_all_lists(shop: Shop) -> None:
    run(shop)
    gone = shop.lists()[USERS[0]][0]
    shop.execute("update items set available = false where item_id = :i", {"i": gone})
    summary = run(shop, "second")
    assert summary.scope == "affected"
    assert not any(gone in items for items in shop.lists().values())


def test_lists_hold_what_is_available_at_the_time_of_the_publication(shop: Shop) -> None:
    first, second = (START + timedelta(days=days) for days in (10, 20))
    shop.execute("update items set available_until = :t where item_id = :i", {"t": second, "i": ITEMS[0]})
    shop.execute("update items set available_from = :t where item_id = :i", {"t": second, "i": ITEMS[1]})

    def listed(run_key: str, now: datetime) -> set[str]:
        longer = shop.settings.model_copy(update={"publishing": PublishingSettings(k=len(ITEMS))})
        publish(shop.engine, longer, scope="all", run_key=run_key, load=shop.load, now=now)
        return {item for items in shop.lists().values() for item in items} & set(ITEMS[:2])

    assert listed("first", first) == {ITEMS[0]}
    assert listed("second", second) == {ITEMS[1]}


def test_users_whose_list_shows_an_item_that_has_ended_are_published_again(shop: Shop) -> None:
    run(shop)
    ended = shop.lists()[USERS[0]][0]
    showing = {user for user, items in shop.lists().items() if ended in items}
    shop.execute("update items set available_until = now() where item_id = :i", {"i": ended})
    assert run(shop, "second").users == len(showing)
    assert not any(ended in items for items in shop.lists().values())


def test_a_reader_sees_no_item_before_its_start_or_after_its_end(shop: Shop) -> None:
    run(shop)
    best, next_best, *others = shop.lists()[USERS[0]]
    shop.execute("update items set available_until = now() where item_id = :i", {"i": best})
    shop.execute(
        "update items set available_from = now() + interval '1 hour' where item_id = :i", {"i": next_best}
    )
    rows = shop.rows("select * from recommendations where user_id = :u order by rank", u=USERS[0])
    assert [(row["rank"], row["item_id"]) for row in rows] == list(enumerate(others, 3))
    # The time of reading counts, also in a transaction that began before the item ended.
    with shop.engine.begin() as reader:
        reader.execute(sa.text("select now()"))
        shop.execute(
            "update items set available_until = clock_timestamp() where item_id = :i", {"i": others[0]}
        )
        seen = reader.execute(
            sa.text("select item_id from recommendations where user_id = :u"), {"u": USERS[0]}
        )
        assert others[0] not in seen.scalars().all()


def test_a_list_shows_one_of_the_items_that_are_one_thing(shop: Shop) -> None:
    run(shop)
    best, next_best, *_ = shop.lists()[USERS[0]]
    shop.execute("update items set variant_of = :best where item_id = :i", {"best": best, "i": next_best})
    run(shop, "second", "all")
    lists = shop.lists()
    assert not any({best, next_best} <= set(items) for items in lists.values())
    assert best in lists[USERS[0]]
    assert {len(items) for items in lists.values()} == {K}


def _roll_back(shop: Shop) -> None:
    shop.promote("2", kind="micro", parent="1")
    shop.promote("3")
    run(shop, "third")
    shop.roll_back("2")


@pytest.mark.parametrize(
    ("happens", "scope"),
    [
        (lambda shop: None, "affected"),
        (lambda shop: shop.promote("2", kind="micro", parent="1"), "affected"),
        (lambda shop: shop.promote("2", kind="full", parent="1"), "all"),
        (lambda shop: (shop.promote("2", "micro", "1"), shop.promote("3", "micro", "2")), "all"),
        (_roll_back, "all"),
    ],
    ids=["same champion", "micro-update", "full fine-tune", "a micro-update was never published", "rollback"],
)
def test_auto_publishes_all_users_unless_lists_may_stay(
    shop: Shop, happens: Callable[[Shop], object], scope: str
) -> None:
    run(shop)
    happens(shop)
    shop.react(USERS[3], ITEMS[4], hours=2)
    assert run(shop, "next").scope == scope


def test_deleted_users_and_users_with_an_erasure_request_have_no_list(shop: Shop) -> None:
    run(shop)
    shop.execute("delete from users where user_id = :u", {"u": USERS[1]})
    shop.execute("insert into erasure_requests (user_id) values (:u)", {"u": USERS[2]})
    run(shop, "second", "all")
    expected = set(USERS) - {USERS[1], USERS[2]}
    assert shop.lists().keys() == expected
    assert vectors(shop, "user_vectors", "user_id").keys() == expected


def test_a_user_erased_while_scoring_does_not_come_back(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def erase(*arguments: Any) -> Any:
        shop.execute("delete from feedback where user_id = :u", {"u": USERS[4]})
        shop.execute("delete from users where user_id = :u", {"u": USERS[4]})
        return swap(*arguments)

    swap = publish_module.swap
    monkeypatch.setattr(publish_module, "swap", erase)
    assert run(shop).users == len(USERS) - 1
    assert USERS[4] not in shop.lists()
    assert USERS[4] not in vectors(shop, "user_vectors", "user_id")


def test_a_user_being_erased_during_the_swap_does_not_come_back(shop: Shop) -> None:
    with shop.engine.connect() as erasing:
        erasing.execute(sa.text("delete from users where user_id = :u"), {"u": USERS[4]})
        publisher = threading.Thread(target=run, args=(shop,))
        publisher.start()
        # The swap waits for the row of the user who is being erased.
        publisher.join(2)
        assert publisher.is_alive()
        erasing.commit()
        publisher.join()
    assert shop.lists().keys() == set(USERS) - {USERS[4]}
    assert vectors(shop, "user_vectors", "user_id").keys() == shop.lists().keys()


def test_a_reader_sees_one_version_everywhere_at_any_moment(shop: Shop) -> None:
    run(shop)
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
            run(shop, version)
    finally:
        time.sleep(0.05)
        stop.set()
        reader.join()
    assert seen <= {(version,) * 4 for version in "1234"}
    assert ("4",) * 4 in seen


def test_killed_before_the_swap_the_old_lists_stay_and_the_next_run_succeeds(shop: Shop) -> None:
    run(shop)
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
    assert run(shop, "killed").model_version == "2"


def test_a_failure_inside_the_swap_leaves_everything_as_it_was(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shop)
    before = shop.rows("select * from recommendation_lists order by user_id")
    shop.promote("2")
    with monkeypatch.context() as patched:
        patched.setattr(publish_module, "SWAP", (*publish_module.SWAP[:-1], "no_such_statement"))
        with pytest.raises(Exception, match="no_such_statement"):
            run(shop, "second")
    assert shop.rows("select * from recommendation_lists order by user_id") == before
    assert [row["run_key"] for row in shop.rows("select run_key from publications")] == ["first"]
    assert run(shop, "second").model_version == "2"


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
    assert versions(shop, "recommendation_lists") == {"2"}


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
    assert set(publication_of(shop).values()) == {3}


def test_scores_that_are_not_numbers_are_never_published(shop: Shop) -> None:
    run(shop)
    before = shop.lists()
    shop.promote("2")

    class Broken(FakeRecommender):
        def score(self, users: Any, histories: Any, requests: Any = None) -> Any:
            scores = super().score(users, histories, requests)
            scores[-1, 5] = float("nan")
            return scores

    def load(settings: Settings, version: str) -> Servable:
        return Servable(Broken(shop.event_types(), version), "full", None, explain)

    with pytest.raises(RegistryError, match="roll back"):
        publish(shop.engine, shop.settings, run_key="r", load=load)
    assert shop.lists() == before


def test_diversity_keeps_the_rules_and_changes_the_order(shop: Shop) -> None:
    run(shop)
    plain = shop.lists()
    shop.settings = shop.settings.model_copy(update={"publishing": PublishingSettings(k=K, diversity=0.6)})
    run(shop, "second", "all")
    varied, consumed = shop.lists(), shop.consumed()
    assert varied != plain
    for user_id, items in varied.items():
        assert items[0] == plain[user_id][0]
        assert len(set(items)) == K
        assert not set(items) & (consumed[user_id] | UNAVAILABLE)


def test_a_catalogue_too_large_for_memory_is_refused_before_it_is_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shop)
    before = shop.lists()
    monkeypatch.setattr(FakeRecommender, "serving_bytes", lambda _, items: {"vectors": items << 50})
    monkeypatch.setattr(publish_module, "read_catalogue", lambda _: pytest.fail("the catalogue was read"))
    with pytest.raises(ConfigurationError, match=r"publishing 30 items with version 1 needs .* GiB"):
        run(shop, "second", "all")
    assert shop.lists() == before


def test_what_is_off_a_list_follows_the_event_type_and_the_rest_of_the_item(shop: Shop) -> None:
    user = USERS[7]
    run(shop, "before")
    first, second, third, fourth, fifth, *_ = shop.lists()[user]
    shop.execute("update event_types set hide_days = 0 where event_type = 'view'")
    shop.execute("update event_types set hide_days = 30 where event_type = 'purchase'")
    shop.execute("update items set rest_days = 2 where item_id = :item", {"item": third})
    shop.execute(
        'update items set attributes = \'{"kind": ["tea", "hot"]}\' where item_id = :item', {"item": fourth}
    )
    shop.execute("insert into rest_periods values ('kind', 'tea', 400)")
    shop.react(user, first, event_type="view")
    shop.react(user, second, third, fourth, event_type="purchase")
    shop.react(user, fifth, event_type="dislike")

    def listed(days: float) -> set[str]:
        publish(
            shop.engine, shop.settings, scope="all", run_key=f"after {days} days", load=shop.load,
            now=START + timedelta(days=days),
        )  # fmt: skip
        return {first, second, third, fourth, fifth} & set(
            shop.rows(
                "select array_agg(item_id) as ids from recommendations where user_id = :user", user=user
            )[0]["ids"]
        )

    shop.settings = shop.settings.model_copy(
        update={"publishing": shop.settings.publishing.model_copy(update={"k": len(ITEMS)})}
    )
    assert listed(1) == {first}
    assert listed(3) == {first, third}
    assert listed(31) == {first, second, third}
    assert listed(401) == {first, second, third, fourth}
