"""While an experiment runs, each user gets the list of one version, whichever way lists are published."""

from typing import Any

import pytest

from recsys.errors import NothingToDoError, RegistryError
from recsys.experiments import validity
from recsys.publishing import active, arms
from recsys.publishing import publish as publish_module
from recsys.publishing.arms import divide
from recsys.publishing.publish import publish
from recsys.publishing.shards import ShardWorker, publish_or_plan, stage_shard, swap_shards
from tests.publishing.shop import ITEMS, START, USERS, Shop, refresh

ARMS = "experiment_arm(users.user_key, this.salt, this.challenger_share, this.hold_out_share)"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Versions in the registry; none of them knows erased users."""
    known = {"1", "2"}

    def load_version(_settings: Any, version: str) -> None:
        if version not in known:
            raise RegistryError(f"version {version} does not exist")

    monkeypatch.setattr(validity, "load_version", load_version)
    monkeypatch.setattr(validity, "serving_term", lambda *_: None)
    return known


@pytest.fixture
def experiment(shop: Shop, registry: set[str], monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Version 1 is published, and an experiment with version 2 has started since."""
    monkeypatch.setattr(active, "load_servable", shop.load)
    shop.kinds["2"] = ("full", None)
    publish(shop.engine, shop.settings, run_key="before", load=shop.load)
    shop.execute(
        "insert into experiments (name, challenger, champion, challenger_share, hold_out_share, salt,"
        " success, guardrails, days, started_by)"
        " values ('first', '2', '1', 0.4, 0.2, 'salt', '{click_through}', '{}', 28, 'tests')"
    )
    return shop


def run(shop: Shop, key: str, scope: Any = "auto") -> Any:
    return publish(shop.engine, shop.settings, scope=scope, run_key=key, load=shop.load)


def arms_of(shop: Shop) -> dict[str, str]:
    rows = shop.rows(f"select users.user_id, {ARMS} as arm from users cross join experiments as this")
    return {row["user_id"]: row["arm"] for row in rows}


def versions(shop: Shop) -> dict[str, str]:
    return {r["user_id"]: r["model_version"] for r in shop.rows("select * from recommendation_lists")}


def expected(shop: Shop) -> dict[str, str]:
    version = {"control": "1", "challenger": "2"}
    return {user: version[arm] for user, arm in arms_of(shop).items() if arm != "hold_out"}


def stop(shop: Shop) -> None:
    shop.execute("update experiments set ended_at = now(), ended_by = 'x', outcome = 'stopped_by_person'")


def test_users_get_the_list_of_their_arm_and_the_hold_out_none(experiment: Shop) -> None:
    arms_before = arms_of(experiment)
    assert {*arms_before.values()} == {"control", "challenger", "hold_out"}
    champions = experiment.lists()
    summary = run(experiment, "night")
    assert (summary.scope, summary.users) == ("all", len(expected(experiment)))
    assert versions(experiment) == expected(experiment)
    lists = experiment.lists()
    for user_id, version in expected(experiment).items():
        assert (lists[user_id] == champions[user_id]) == (version == "1"), user_id
    vectors = {row["user_id"] for row in experiment.rows("select user_id from user_vectors")}
    assert vectors == {user for user, version in expected(experiment).items() if version == "1"}
    [row] = experiment.rows("select shown_since, experiment_id from experiments")
    assert row["shown_since"] is not None
    [*_, last] = experiment.rows("select * from publications order by publication_id")
    assert (last["experiment_id"], last["model_version"]) == (row["experiment_id"], "1")


def test_who_has_no_key_gets_one_before_the_arms_are_chosen(experiment: Shop) -> None:
    experiment.execute("update users set user_key = null where user_id = :u", {"u": USERS[0]})
    run(experiment, "night")
    assert arms_of(experiment)[USERS[0]] is not None
    assert versions(experiment) == expected(experiment)


def test_visitors_get_the_champions_list(experiment: Shop) -> None:
    experiment.execute("update users set kind = 'visitor' where user_id = :u", {"u": USERS[1]})
    experiment.execute("update feedback set session_id = user_id where user_id = :u", {"u": USERS[1]})
    experiment.react(USERS[1], *ITEMS[:3], hours=1)
    run(experiment, "night")
    assert versions(experiment).get(USERS[1], "1") == "1"


def test_a_publication_for_few_users_keeps_the_arms(experiment: Shop) -> None:
    run(experiment, "night")
    by_arm = arms_of(experiment)
    few = [
        next(user for user in USERS if by_arm[user] == arm) for arm in ("control", "challenger", "hold_out")
    ]
    for user in few:
        experiment.react(user, ITEMS[9], ITEMS[11], hours=1)
    assert run(experiment, "hour").scope == "affected"
    assert versions(experiment) == expected(experiment)
    for user in few:
        experiment.react(user, ITEMS[12], hours=2)
    before = experiment.lists()
    assert refresh(experiment).users == 2
    assert versions(experiment) == expected(experiment)
    assert before[few[1]] != experiment.lists()[few[1]]
    assert few[2] not in experiment.lists()


def test_shards_publish_the_same_lists(experiment: Shop) -> None:
    run(experiment, "night")
    at_once = experiment.rows(
        "select user_id, model_version, item_ids, scores from recommendation_lists order by 1"
    )
    experiment.execute("delete from recommendation_lists")
    worker = publish_or_plan(
        experiment.engine, experiment.settings, scope="all", run_key="shards", load=experiment.load,
        users_per_shard=lambda _: 16,
    )  # fmt: skip
    assert isinstance(worker, ShardWorker)
    plan = worker.plan
    assert plan.shards > 1
    for shard in range(plan.shards):
        stage_shard(experiment.engine, experiment.settings, plan.plan_id, shard, load=experiment.load)
    swap_shards(experiment.engine, plan.plan_id)
    sharded = experiment.rows(
        "select user_id, model_version, item_ids, scores from recommendation_lists order by 1"
    )
    assert sharded == at_once
    [*_, last] = experiment.rows("select * from publications order by publication_id")
    assert last["experiment_id"] is not None


def test_after_the_end_everybody_gets_the_champions_list(experiment: Shop) -> None:
    run(experiment, "night")
    stop(experiment)
    experiment.react(USERS[3], ITEMS[12], hours=2)
    with pytest.raises(NothingToDoError, match="an experiment has started or ended"):
        refresh(experiment)
    assert run(experiment, "hour").scope == "all"
    assert {*versions(experiment).values()} == {"1"}
    assert versions(experiment).keys() == {*USERS}


def test_an_experiment_that_ends_while_lists_are_computed_is_not_published(
    experiment: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(experiment, "night")
    swap, ended = publish_module.swap, []

    def end_first(*arguments: Any) -> Any:
        if not ended:
            ended.append(stop(experiment))
        return swap(*arguments)

    monkeypatch.setattr(publish_module, "swap", end_first)
    run(experiment, "day", "all")
    assert {*versions(experiment).values()} == {"1"}


@pytest.mark.parametrize("broken", ["removed", "unloadable", "champion", "rolled back"])
def test_an_experiment_that_cannot_go_on_ends_with_its_reason_and_all_get_the_champion(
    experiment: Shop, registry: set[str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    run(experiment, "night")
    load = experiment.load
    if broken == "removed":
        registry.remove("2")
    elif broken == "champion":
        experiment.promote("2")
    elif broken == "rolled back":
        experiment.promote("3", "micro", "1")
        experiment.roll_back("1")
    else:

        def load(settings: Any, version: str) -> Any:
            if version == "2":
                raise RegistryError("its files have changed")
            return Shop.load(experiment, settings, version)

    champion = "2" if broken == "champion" else "1"
    publish(experiment.engine, experiment.settings, run_key="day", load=load)
    [ended] = experiment.rows("select * from experiments")
    assert (
        ended["outcome"]
        == {
            "removed": "challenger_removed",
            "unloadable": "challenger_unusable",
            "champion": "challenger_promoted",
            "rolled back": "champion_rolled_back",
        }[broken]
    )
    assert {*versions(experiment).values()} == {champion}
    assert versions(experiment).keys() == {*USERS}
    [row] = experiment.rows("select * from promotion_ledger where action = 'experiment'")
    assert (row["reason"], row["model_version"]) == (ended["outcome"], "2")
    [alert] = experiment.rows("select * from alerts")
    assert alert["cause"] == "experiment first"
    assert alert["sent_at"] is not None


def test_a_range_is_divided_at_the_challengers_first_user() -> None:
    assert divide(0, 10, None) == ((0, 10), (10, 10))
    assert divide(0, 10, 6) == ((0, 6), (6, 10))
    assert divide(8, 10, 6) == ((8, 8), (8, 10))
    assert divide(0, 4, 6) == ((0, 4), (4, 4))


def test_without_an_experiment_no_key_is_needed(shop: Shop) -> None:
    assert arms.load_challenger(shop.engine, shop.settings, shop.load, START) is None
