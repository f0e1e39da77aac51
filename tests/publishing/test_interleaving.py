"""Lists that two versions pick in turn: fair, repeatable, remembered, the same in every way of publishing."""

from datetime import UTC, datetime
from itertools import product
from typing import Any

import numpy as np
import pytest

from recsys.experiments import validity
from recsys.model.ranking import NO_ITEM
from recsys.publishing import active
from recsys.publishing.interleaving import BOTH, CHALLENGER, CHAMPION, draft
from recsys.publishing.publish import publish
from recsys.publishing.shards import ShardWorker, publish_or_plan, stage_shard, swap_shards
from recsys.serving.install import install_serving
from recsys.upkeep.erasure import erase_requested, request_erasure
from tests.publishing.shop import ITEMS, USERS, K, Shop, refresh


def test_each_round_gives_one_item_to_each_version_and_the_coin_says_whose_comes_first() -> None:
    assert draft([1, 2, 3, 4], [5, 6, 7, 8], [False, True, True, True]) == (
        [1, 5, 6, 2],
        [CHAMPION, CHALLENGER, CHALLENGER, CHAMPION],
    )
    # What is taken already is passed over.
    assert draft([1, 2, 3], [4, 1, 2], [False] * 3) == ([1, 4, 2], [CHAMPION, CHALLENGER, BOTH])


def test_what_both_versions_want_comes_without_a_coin_and_is_nobodys() -> None:
    assert draft([1, 2, 3], [1, 2, 3], []) == ([1, 2, 3], [BOTH] * 3)
    assert draft([1, 2, 3], [1, 4, 5], [False] * 3) == ([1, 2, 4], [BOTH, CHAMPION, CHALLENGER])


def test_a_ranking_that_is_used_up_leaves_its_places_to_the_other_one() -> None:
    assert draft([1, NO_ITEM, NO_ITEM], [2, 3, NO_ITEM], [False]) == (
        [1, 2, 3],
        [CHAMPION, CHALLENGER, BOTH],
    )
    assert draft([NO_ITEM] * 2, [NO_ITEM] * 2, []) == ([], [])


@pytest.mark.parametrize("other", [[*range(3, 9)], [9, *range(5)], [*range(5), 9], [0, 2, 1, 4, 3, 9]])
def test_who_does_not_care_prefers_neither_and_half_is_the_propensity_of_a_toss(other: list[int]) -> None:
    """Of all tosses alike, each version has each position, and each item its place, equally often."""
    drafts = [draft([*range(6)], other, list(coins)) for coins in product([False, True], repeat=6)]
    items, picks = (np.array(part) for part in zip(*drafts, strict=True))
    shown_for = [(picks == team).mean(axis=0) for team in (CHAMPION, CHALLENGER)]
    np.testing.assert_array_equal(*shown_for)
    for position in range(6):
        by_coin = picks[0, position] != BOTH
        assert {*np.unique(items[:, position], return_counts=True)[1]} == {64 >> by_coin}


@pytest.fixture
def interleaved(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Version 1 is published, and an interleaved experiment with version 2 has started since."""
    monkeypatch.setattr(validity, "load_version", lambda *_: None)
    monkeypatch.setattr(validity, "serving_term", lambda *_: None)
    monkeypatch.setattr(active, "load_servable", shop.load)
    shop.kinds["2"] = ("full", None)
    publish(shop.engine, shop.settings, run_key="before", load=shop.load)
    shop.execute(
        "insert into experiments (name, challenger, champion, challenger_share, salt, kind, success,"
        " guardrails, days, started_by)"
        " values ('first', '2', '1', 0.6, 'salt', 'interleave', '{preference}', '{}', 28, 'tests')"
    )
    return shop


def run(shop: Shop, key: str, scope: Any = "auto") -> Any:
    return publish(shop.engine, shop.settings, scope=scope, run_key=key, load=shop.load)


def of_arm(shop: Shop, arm: str) -> list[str]:
    rows = shop.rows(
        "select user_id from users where experiment_arm(user_key, 'salt', 0.6, 0) = :arm order by 1", arm=arm
    )
    return [row["user_id"] for row in rows]


def full_lists(shop: Shop) -> list[Any]:
    return [
        {
            name: row[name]
            for name in ("user_id", "model_version", "item_ids", "pool_item_ids", "propensities")
        }
        for row in shop.rows("select * from recommendation_lists order by user_id")
    ]


def test_users_of_the_experiment_get_what_both_versions_pick(interleaved: Shop) -> None:
    champions = {row["user_id"]: row for row in full_lists(interleaved)}
    run(interleaved, "night")
    published = {row["user_id"]: row for row in full_lists(interleaved)}
    for user in of_arm(interleaved, "control"):
        assert published[user] == champions[user]
    mixed = of_arm(interleaved, "challenger")
    rows = interleaved.rows("select * from interleaved_lists order by user_id")
    assert [row["user_id"] for row in rows] == mixed
    for row in rows:
        found = published[row["user_id"]]
        assert found["model_version"] == "1+2"
        assert found["propensities"] == [1 if other is None else 0.5 for other in row["of_challenger"][:K]]
        assert found["item_ids"] == found["pool_item_ids"][:K] == row["item_ids"][:K]
        assert len(set(found["pool_item_ids"])) == len(found["pool_item_ids"])
        mine = [item for item, other in zip(row["item_ids"], row["of_challenger"], strict=True) if not other]
        ranked = champions[row["user_id"]]["pool_item_ids"]
        assert mine == sorted(mine, key=ranked.index)
        assert {True, False} <= {*row["of_challenger"]}
        reasons = interleaved.rows(
            "select reasons from recommendation_lists where user_id = :u", u=row["user_id"]
        )[0]["reasons"]
        versions = ["2" if other else "1" for other in row["of_challenger"][:K]]
        assert [reason.split()[1] for reason in reasons] == versions
    vectors = {row["user_id"] for row in interleaved.rows("select user_id from user_vectors")}
    assert vectors == {*USERS}


def test_a_retry_tosses_the_same_coins_and_another_run_others(interleaved: Shop) -> None:
    run(interleaved, "night", "all")
    first = full_lists(interleaved)
    interleaved.execute("update publications set run_key = 'killed' where run_key = 'night'")
    run(interleaved, "night", "all")
    assert full_lists(interleaved) == first
    run(interleaved, "another", "all")
    assert full_lists(interleaved) != first


def test_shards_publish_the_same_lists(interleaved: Shop) -> None:
    run(interleaved, "night")
    at_once = full_lists(interleaved)
    interleaved.execute("update publications set run_key = 'at once' where run_key = 'night'")
    worker = publish_or_plan(
        interleaved.engine, interleaved.settings, scope="all", run_key="night", load=interleaved.load,
        users_per_shard=lambda _: 16,
    )  # fmt: skip
    assert isinstance(worker, ShardWorker)
    plan = worker.plan
    for shard in range(plan.shards):
        stage_shard(interleaved.engine, interleaved.settings, plan.plan_id, shard, load=interleaved.load)
    swap_shards(interleaved.engine, plan.plan_id)
    assert full_lists(interleaved) == at_once
    assert len(interleaved.rows("select * from interleaved_lists")) == 2 * len(
        of_arm(interleaved, "challenger")
    )


def test_who_reacts_gets_a_new_interleaved_list_beside_the_old_record(interleaved: Shop) -> None:
    run(interleaved, "night")
    user = of_arm(interleaved, "challenger")[0]
    interleaved.react(user, ITEMS[9], ITEMS[11], hours=1)
    refresh(interleaved)
    [row] = [row for row in full_lists(interleaved) if row["user_id"] == user]
    kept = interleaved.rows(
        "select item_ids from interleaved_lists where user_id = :u order by published_at", u=user
    )
    assert row["model_version"] == "1+2"
    assert len(kept) == 2
    assert kept[1]["item_ids"][:K] == row["item_ids"]


def test_after_the_end_everybody_gets_the_champions_list_and_no_record_is_left(interleaved: Shop) -> None:
    before = {row["user_id"]: row for row in full_lists(interleaved)}
    run(interleaved, "night")
    interleaved.execute(
        "update experiments set ended_at = now(), ended_by = 'x', outcome = 'stopped_by_person'"
    )
    run(interleaved, "day")
    assert {row["user_id"]: row for row in full_lists(interleaved)} == before
    assert interleaved.rows("select * from interleaved_lists") == []


@pytest.mark.parametrize("explores", [True, False])
def test_propensities_are_those_of_the_coin_or_not_known(interleaved: Shop, explores: bool) -> None:
    install_serving(interleaved.engine)
    interleaved.execute(f"update placements set explores = {explores}, length = {K}")
    run(interleaved, "night")
    published = {row["user_id"]: row for row in full_lists(interleaved)}
    mixed, other = of_arm(interleaved, "challenger")[0], of_arm(interleaved, "control")[0]

    def read(user: str, arguments: str = "") -> list[Any]:
        return interleaved.rows(f"select * from serving.recommend(:u{arguments})", u=user)

    def propensities(rows: list[Any]) -> list[float | None]:
        return [row["propensity"] for row in rows]

    shown = read(mixed)
    assert [row["item_id"] for row in shown] == published[mixed]["item_ids"]
    assert {row["model_version"] for row in shown} == {"1+2"}
    assert propensities(shown) == (published[mixed]["propensities"] if explores else [None] * K)
    assert propensities(read(other)) == [1.0] * K
    first, second = published[mixed]["item_ids"][:2]
    without_first = read(mixed, f", exclude => array['{first}']")
    assert [row["item_id"] for row in without_first][: K - 1] == published[mixed]["item_ids"][1:]
    assert propensities(without_first) == [None] * K
    interleaved.react(mixed, second, occurred_at=datetime.now(UTC))
    assert propensities(read(mixed)) == [None] * K


def test_erasure_takes_what_was_interleaved_for_the_user(interleaved: Shop) -> None:
    run(interleaved, "night")
    user = of_arm(interleaved, "challenger")[0]
    request_erasure(interleaved.engine, user)
    [receipt] = erase_requested(interleaved.engine, interleaved.settings.snapshots)
    assert receipt
    assert user not in {row["user_id"] for row in interleaved.rows("select user_id from interleaved_lists")}
