"""Publications in shards: the lists of one process, whoever is killed or late."""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, NothingToDoError, WarehouseError
from recsys.publishing import publish as publish_module
from recsys.publishing import shards
from recsys.publishing.plans import claim, use_plan
from recsys.publishing.publish import PublishSummary, publish
from recsys.publishing.servable import Servable
from recsys.publishing.shards import ShardWorker, publish_or_plan, swap_shards
from recsys.publishing.staging import SHARD_TABLES, staging_session
from recsys.settings import PublishingSettings, Settings
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.statements import read_statement
from tests.publishing.sharding import (
    NOW,
    WHAT_READERS_SEE,
    forget_publications,
    in_one_process,
    plan,
    seen,
    stage,
    staged_rows,
)
from tests.publishing.shop import ITEMS, USERS, FakeRecommender, K, Shop, explain, stage_shard_and_hang


def test_shards_publish_what_one_process_publishes(exploring: Shop) -> None:
    expected = in_one_process(exploring)
    forget_publications(exploring)
    planned = plan(exploring)
    stage(exploring, planned, 2, 0, 1)
    assert seen(exploring) == {table: [] for table in WHAT_READERS_SEE}
    summary = swap_shards(exploring.engine, planned.plan_id)
    assert (summary.users, summary.items, summary.scope) == (40, 28, "all")
    assert seen(exploring) == expected
    assert set(staged_rows(exploring).values()) == {0}


def test_shards_begin_where_batches_begin(shop: Shop) -> None:
    planned = plan(shop, users_per_shard=39)
    found = shop.rows("select first_position, last_position from staging.shards order by shard")
    assert [tuple(row.values()) for row in found] == [(0, 32), (32, 40)]
    assert planned.users == 40


def test_few_users_are_published_at_once(shop: Shop) -> None:
    summary = publish_or_plan(
        shop.engine, shop.settings, run_key="r", users_per_shard=lambda users: users + 16, load=shop.load
    )
    assert isinstance(summary, PublishSummary)
    assert len(shop.lists()) == 40
    assert shop.rows("select * from staging.plans") == []


def test_affected_users_are_published_in_shards_too(exploring: Shop) -> None:
    def reacted() -> None:
        for user in USERS[:35]:
            exploring.react(user, ITEMS[29], hours=1)

    in_one_process(exploring, "before")
    reacted()
    worker = publish_or_plan(
        exploring.engine, exploring.settings, run_key="hour", users_per_shard=lambda _: 16,
        load=exploring.load, now=NOW,
    )  # fmt: skip
    assert isinstance(worker, ShardWorker)
    planned = worker.plan
    assert (planned.everyone, planned.users) == (False, 35)
    stage(exploring, planned)
    assert swap_shards(exploring.engine, planned.plan_id).scope == "affected"
    assert len(exploring.lists()) == 40
    assert not any(ITEMS[29] in items for user, items in exploring.lists().items() if user in USERS[:35])


def test_a_shard_that_is_killed_is_staged_again_alone(exploring: Shop) -> None:
    expected = in_one_process(exploring)
    forget_publications(exploring)
    # Shards of two batches: the first batch of the killed attempt is committed.
    planned = plan(exploring, users_per_shard=32)
    stage(exploring, planned, 1)
    context = multiprocessing.get_context("spawn")
    reached = context.Event()
    worker = context.Process(
        target=stage_shard_and_hang,
        args=(exploring.settings, exploring.kinds, planned.plan_id, 0, reached),
        daemon=True,
    )
    worker.start()
    assert reached.wait(60)
    worker.kill()
    worker.join()
    assert staged_rows(exploring)["staged_lists"] == 8 + 16
    with pytest.raises(WarehouseError, match=r"shards 0 are not staged"):
        swap_shards(exploring.engine, planned.plan_id)
    stage(exploring, planned, 0)
    swap_shards(exploring.engine, planned.plan_id)
    assert seen(exploring) == expected


def test_a_publisher_that_is_killed_between_staging_and_swap_changes_nothing(
    exploring: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = in_one_process(exploring)
    planned = plan(exploring, "next")
    stage(exploring, planned)
    with monkeypatch.context() as patched:
        patched.setattr(publish_module, "SWAP", ())
        patched.setattr(shards, "SWAP", (*shards.SWAP, "no_such_statement"))
        with pytest.raises(ConfigurationError, match="no_such_statement"):
            swap_shards(exploring.engine, planned.plan_id)
    assert seen(exploring) == before
    swap_shards(exploring.engine, planned.plan_id)
    again = swap_shards(exploring.engine, planned.plan_id)
    assert (
        again.publication_id == exploring.rows("select max(publication_id) as id from publications")[0]["id"]
    )


def test_a_worker_that_comes_back_after_its_retry_writes_nothing(shop: Shop) -> None:
    planned = plan(shop, users_per_shard=32)

    class Slow(FakeRecommender):
        """Lets the retry of the shard finish before the second batch is scored."""

        def user_vectors(self, histories: Any) -> Any:
            if late:
                late.pop()()
            return super().user_vectors(histories)

    def retry() -> None:
        stage(shop, planned, 0)

    late: list[Callable[[], None]] = [retry, lambda: None]
    with pytest.raises(NothingToDoError, match="shard 0 of plan 1 has been taken by another attempt"):
        stage(shop, planned, 0, load=lambda *_: Servable(Slow(shop.event_types()), "full", None, explain))
    stage(shop, planned, 1)
    rows = shop.rows("select position, count(*) as times from staging.staged_lists group by position")
    assert sorted(row["position"] for row in rows) == list(range(40))
    assert {row["times"] for row in rows} == {1}
    swap_shards(shop.engine, planned.plan_id)
    stage(shop, planned, 0)
    assert set(staged_rows(shop).values()) == {0}


def test_the_swap_names_the_shards_that_are_missing(shop: Shop) -> None:
    planned = plan(shop)
    stage(shop, planned, 1)
    with pytest.raises(WarehouseError, match="shards 0, 2 are not staged; clear their tasks stage_shard"):
        swap_shards(shop.engine, planned.plan_id)
    assert shop.lists() == {}
    stage(shop, planned, 0, 2)
    assert swap_shards(shop.engine, planned.plan_id).users == 40


def test_completeness_is_checked_in_one_pass_over_what_is_staged(shop: Shop) -> None:
    planned = plan(shop)
    with shop.engine.connect() as connection:
        use_plan(connection, planned.plan_id)
        # Statistics of few rows, and then many, as in a plan that has just been staged.
        connection.exec_driver_sql(
            "analyze staging.staged_users, staging.staged_lists;"
            "insert into staging.staged_users (position, user_id)"
            " select n, 'u' || n from generate_series(100, 9000) as n;"
            "insert into staging.staged_lists select staging.current_plan(), n, '{}', '{}', '{}', '[]', '{}'"
            " from generate_series(0, 9000) as n;"
            "insert into staging.staged_pools select staging.current_plan(), n, '{}', '{}'"
            " from generate_series(0, 9000) as n"
        )
        explain_it = "explain (analyze, format json) " + read_statement("publishing/select_missing_shards")
        [found] = connection.exec_driver_sql(explain_it).scalar_one()
    nodes, loops = [found["Plan"]], {}
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name", "").startswith("staged_") or "CTE Name" in node:
            loops[node.get("Alias", node.get("CTE Name"))] = node["Actual Loops"]
    assert {"staged_lists", "staged_pools", "staged_user_vectors"} <= loops.keys()
    assert max(loops.values()) == 1


def test_what_a_crash_of_postgres_loses_is_noticed_and_planned_again(shop: Shop) -> None:
    planned = plan(shop)
    stage(shop, planned, 0, 1)
    # Postgres empties unlogged tables when it recovers from a crash.
    for table in staged_rows(shop):
        shop.execute(f"truncate staging.{table}")
    with pytest.raises(WarehouseError, match="has lost what was staged"):
        stage(shop, planned, 2)
    with pytest.raises(WarehouseError, match="has lost what was staged for shards 0, 1"):
        swap_shards(shop.engine, planned.plan_id)
    assert shop.lists() == {}
    again = plan(shop)
    stage(shop, again)
    assert swap_shards(shop.engine, again.plan_id).users == 40


def test_a_catalogue_that_grows_while_shards_run_is_that_of_the_plan(exploring: Shop) -> None:
    expected = in_one_process(exploring)
    forget_publications(exploring)
    planned = plan(exploring)
    stage(exploring, planned, 0)
    exploring.add_items("a new item", "item 02a")
    exploring.execute("update items set title = 'Renamed' where item_id = 'item 05'")
    exploring.execute("delete from items where item_id = 'item 29'")
    stage(exploring, planned, 1, 2)
    swap_shards(exploring.engine, planned.plan_id)
    gone = "'item 29'"
    found = seen(exploring)
    assert found["recommendation_lists"] == expected["recommendation_lists"]
    assert found["published_items"] == expected["published_items"]
    assert found["item_vectors"] == [row for row in expected["item_vectors"] if gone not in row]
    # What has changed since the plan is published by the next publication.
    later = publish(exploring.engine, exploring.settings, run_key="hour", load=exploring.load, now=NOW)
    assert later.scope == "affected"
    vectors = {row["item_id"] for row in exploring.rows("select item_id from item_vectors")}
    assert {"a new item", "item 02a"} <= vectors


def test_feedback_that_arrives_while_shards_run_is_left_to_the_next_publication(shop: Shop) -> None:
    planned = plan(shop)
    shop.react(USERS[20], *ITEMS[:5], hours=2)
    shop.close_window()
    stage(shop, planned)
    swap_shards(shop.engine, planned.plan_id)
    # What was had is off the list at once; the model reads it next time.
    assert not set(shop.lists()[USERS[20]]) & set(ITEMS[:5])
    again = publish(shop.engine, shop.settings, run_key="hour", load=shop.load, now=NOW)
    assert (again.scope, again.users) == ("affected", 1)


def test_a_user_erased_between_shard_and_swap_does_not_come_back(shop: Shop) -> None:
    planned = plan(shop)
    stage(shop, planned, 0, 1)
    for user in (USERS[4], USERS[38]):
        request_erasure(shop.engine, user)
    assert len(erase_requested(shop.engine, shop.settings.snapshots)) == 2
    assert staged_rows(shop)["staged_lists"] == 31
    assert shop.rows("select * from staging.staged_users where user_id in ('user 04', 'user 38')") == []
    stage(shop, planned, 2)
    assert swap_shards(shop.engine, planned.plan_id).users == 38
    assert shop.lists().keys() == set(USERS) - {USERS[4], USERS[38]}


def test_a_shard_takes_the_settings_of_its_plan(shop: Shop) -> None:
    planned = plan(shop)
    shop.settings = shop.settings.model_copy(update={"publishing": PublishingSettings(k=K + 3)})
    stage(shop, planned)
    swap_shards(shop.engine, planned.plan_id)
    assert {len(items) for items in shop.lists().values()} == {K}


def test_memory_that_does_not_suffice_is_refused_before_the_model_is_loaded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(shop)
    shop.execute("update staging.plans set serving_bytes = 1::bigint << 50")
    with pytest.raises(ConfigurationError, match=r"fewer shards run at once .* --processes"):
        stage(shop, planned, 0, load=lambda *_: pytest.fail("the model was loaded"))


@pytest.mark.parametrize("scored", [1, 2], ids=["within a shard", "between shards"])
def test_shards_go_on_on_the_cpu_when_the_gpu_fails(
    exploring: Shop, caplog: pytest.LogCaptureFixture, scored: int
) -> None:
    expected = in_one_process(exploring)
    forget_publications(exploring)
    # The last users have a version of their own, which is loaded after the GPU has failed.
    planned = replace(plan(exploring, users_per_shard=32), challenger="2", challenger_first=36)
    loaded: list[str] = []

    class Lost(FakeRecommender):
        """A GPU that is gone after the first batches."""

        batches: int = 0

        def user_vectors(self, histories: Any) -> Any:
            Lost.batches += 1
            if Lost.batches > scored:
                raise RuntimeError("CUDA error: device not ready\nCompile with ...")
            return super().user_vectors(histories)

    def load(settings: Settings, _version: str) -> Servable:
        loaded.append("cuda:0")
        return replace(exploring.load(settings, "1"), model=Lost(exploring.event_types()), device="cuda:0")

    def load_on_cpu(settings: Settings, _version: str) -> Servable:
        loaded.append("cpu")
        return exploring.load(settings, "1")

    worker = ShardWorker(exploring.settings, planned, load, load_on_cpu)
    with staging_session(exploring.engine, SHARD_TABLES) as connection:
        use_plan(connection, planned.plan_id)
        for shard in range(2):
            taken = claim(connection, planned.plan_id, shard)
            assert taken is not None
            worker.stage(connection, taken)
    failed = scored - 1
    assert f"shard {failed} of plan 1, which goes on on the CPU: CUDA error: device not ready" in caplog.text
    # The device that has failed is not tried again.
    assert loaded == ["cuda:0", "cpu", "cpu"]
    devices = exploring.rows("select device from staging.shards order by shard")
    assert [row["device"] for row in devices] == ["cuda:0"] * failed + ["cpu"] * (2 - failed)
    swap_shards(exploring.engine, planned.plan_id)
    assert seen(exploring) == expected


def test_readers_do_not_wait_while_shards_are_swapped(shop: Shop) -> None:
    before = in_one_process(shop, "before")
    planned = plan(shop)
    stage(shop, planned)
    waiting: list[float] = []

    @sa.event.listens_for(shop.engine, "before_cursor_execute")
    def read_meanwhile(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "insert into recommendation_lists" in statement and not waiting:
            waiting.append(0)
            with shop.engine.connect() as reader:
                reader.exec_driver_sql("set lock_timeout = 1")
                assert len(reader.exec_driver_sql("select * from recommendation_lists").all()) == 40

    swap_shards(shop.engine, planned.plan_id)
    assert waiting
    assert seen(shop)["recommendation_lists"] == before["recommendation_lists"]
