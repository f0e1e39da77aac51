"""Plans of publications in shards: one after the other, and none that nobody works on."""

from datetime import timedelta
from typing import Any

import pytest

from recsys.errors import ConfigurationError, NothingToDoError
from recsys.publishing import active, shards
from recsys.publishing.plans import Plan
from recsys.publishing.publish import PublishSummary, publish
from recsys.publishing.servable import Servable
from recsys.publishing.shards import publish_or_plan, swap_shards
from recsys.publishing.staging import remove_abandoned_shards
from tests.publishing.sharding import NOW, in_one_process, plan, stage, staged_rows
from tests.publishing.shop import ITEMS, USERS, FakeRecommender, Shop, explain


def test_more_shards_than_a_task_can_be_mapped_are_refused_before_anything_is_computed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_SHARDS", 2)
    with pytest.raises(ConfigurationError, match="RECSYS_PUBLISHING__USERS_PER_SHARD to at least 20"):
        plan(shop)
    assert shop.rows("select * from staging.plans") == []


def test_a_run_that_is_planned_finds_its_plan_again(shop: Shop) -> None:
    planned = plan(shop)
    stage(shop, planned, 0)
    assert plan(shop) == planned
    stage(shop, planned, 1, 2)
    swap_shards(shop.engine, planned.plan_id)
    done = publish_or_plan(
        shop.engine, shop.settings, run_key="night", users_per_shard=lambda _: 16, load=shop.load
    )
    assert isinstance(done, PublishSummary)


def test_other_publications_wait_for_an_open_plan(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_process(shop, "before")
    planned = plan(shop)
    stage(shop, planned, 0)
    shop.react(USERS[3], ITEMS[4], hours=1)
    monkeypatch.setattr(active, "load_servable", shop.load)
    with pytest.raises(NothingToDoError, match=r"plan 1 of run night, of which 1 of 3 shards are staged"):
        active.publish_active_users(shop.engine, shop.settings, run_key="refresh", now=NOW)

    def finish(_: float) -> None:
        stage(shop, planned, 1, 2)
        swap_shards(shop.engine, planned.plan_id)

    monkeypatch.setattr("recsys.publishing.staging.time.sleep", finish)
    other = publish(shop.engine, shop.settings, run_key="hour", load=shop.load, now=NOW)
    assert other.publication_id > 2
    assert (other.scope, other.users) == ("affected", 1)


def test_two_publications_with_shards_are_published_in_the_order_of_their_plans(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan(shop, "first")
    stage(shop, first, 0, 1)

    def finish(_: float) -> None:
        stage(shop, first, 2)
        swap_shards(shop.engine, first.plan_id)

    with monkeypatch.context() as patched:
        patched.setattr("recsys.publishing.staging.time.sleep", finish)
        second = plan(shop, "second")
    assert second.plan_id > first.plan_id
    stage(shop, first, 2)
    stage(shop, second)
    swap_shards(shop.engine, second.plan_id)
    keys = [row["run_key"] for row in shop.rows("select run_key from publications order by publication_id")]
    assert keys == ["first", "second"]


def test_a_shard_of_an_earlier_publication_that_still_runs_writes_nothing_into_the_next(shop: Shop) -> None:
    first = plan(shop, "first", users_per_shard=32)
    second: list[Plan] = []

    class Slow(FakeRecommender):
        """Lets another publication begin, and stage a shard, before the second batch is scored."""

        batches: int = 0

        def user_vectors(self, histories: Any) -> Any:
            Slow.batches += 1
            if Slow.batches == 2:
                shop.promote("2")
                second.append(plan(shop, "second", users_per_shard=32))
                stage(shop, second[0], 0)
            return super().user_vectors(histories)

    with pytest.raises(NothingToDoError, match="another publication has taken the plan's place"):
        stage(shop, first, 0, load=lambda *_: Servable(Slow(shop.event_types()), "full", None, explain))
    assert Slow.batches == 2
    assert staged_rows(shop)["staged_lists"] == 32
    stage(shop, second[0], 1)
    assert swap_shards(shop.engine, second[0].plan_id).users == 40
    assert {row["model_version"] for row in shop.rows("select model_version from recommendation_lists")} == {
        "2"
    }


def test_a_plan_whose_shards_are_silent_gives_way(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(shop, "abandoned")
    stage(shop, planned, 0)
    monkeypatch.setattr("recsys.publishing.staging.SILENCE", timedelta(0))
    other = publish(shop.engine, shop.settings, run_key="other", load=shop.load, now=NOW)
    assert other.users == 40
    assert set(staged_rows(shop).values()) == {0}
    with pytest.raises(NothingToDoError, match="not to be staged any more"):
        stage(shop, planned, 1)
    with pytest.raises(NothingToDoError, match="another publication has taken its place"):
        swap_shards(shop.engine, planned.plan_id)
    assert set(staged_rows(shop).values()) == {0}


def test_housekeeping_removes_what_a_dead_publication_has_staged_and_leaves_a_running_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(shop)
    stage(shop, planned, 0)
    before = staged_rows(shop)
    remove_abandoned_shards(shop.engine)
    assert staged_rows(shop) == before
    monkeypatch.setattr("recsys.publishing.staging.SILENCE", timedelta(0))
    remove_abandoned_shards(shop.engine)
    assert set(staged_rows(shop).values()) == {0}


def test_a_new_champion_takes_the_place_of_a_plan_at_once(shop: Shop) -> None:
    planned = plan(shop)
    stage(shop, planned, 0, 1)
    shop.promote("2")
    with pytest.raises(NothingToDoError, match="version 1 was replaced as champion"):
        stage(shop, planned, 2)
    other = publish(shop.engine, shop.settings, run_key="champion", load=shop.load, now=NOW)
    assert other.model_version == "2"
    with pytest.raises(NothingToDoError):
        swap_shards(shop.engine, planned.plan_id)
    assert {row["model_version"] for row in shop.rows("select model_version from publications")} == {"2"}
