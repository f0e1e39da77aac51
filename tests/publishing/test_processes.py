"""Publishing with several processes of one machine."""

import time
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, RegistryError
from recsys.publishing import processes
from recsys.publishing.processes import publish_in_processes
from recsys.publishing.publish import PublishSummary
from recsys.publishing.servable import Servable
from recsys.publishing.shards import Load, ShardWorker
from recsys.settings import Settings
from tests.publishing.sharding import NOW, forget_publications, in_one_process, seen, staged_rows
from tests.publishing.shop import (
    Shop,
    load_fake,
    load_one_that_dies,
    load_something_broken,
    load_while_another_is_promoted,
)


def run(shop: Shop, load: Load = load_fake, number: int = 2) -> PublishSummary:
    return publish_in_processes(
        shop.engine,
        shop.settings,
        processes=number,
        scope="all",
        run_key="night",
        load=load,
        load_beside=load,
        now=NOW,
    )


@pytest.fixture
def others_first(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process begin when another one has taken a shard."""
    own = processes._stage

    def wait_and_stage(engine: sa.Engine, worker: ShardWorker, *, taken_too: bool) -> None:
        while not shop.rows("select from staging.shards where state <> 'waiting'"):
            time.sleep(0.01)
        own(engine, worker, taken_too=taken_too)

    monkeypatch.setattr(processes, "_stage", wait_and_stage)


def states(shop: Shop) -> list[str]:
    return [row["state"] for row in shop.rows("select state from staging.plans order by plan_id")]


@pytest.mark.usefixtures("others_first")
def test_two_processes_publish_what_one_publishes(shop: Shop) -> None:
    expected = in_one_process(shop)
    forget_publications(shop)
    summary = run(shop)
    assert (summary.users, summary.items) == (40, 28)
    assert seen(shop) == expected
    assert len(shop.rows("select * from staging.shards where attempt = 1")) == 3
    assert set(staged_rows(shop).values()) == {0}


def test_the_process_that_plans_stages_with_the_model_that_it_has_loaded(shop: Shop) -> None:
    loaded: list[str] = []

    def load(settings: Settings, version: str) -> Servable:
        loaded.append(version)
        return load_fake(settings, version)

    assert run(shop, load, number=1).users == 40
    assert loaded == ["1"]


@pytest.mark.usefixtures("others_first")
def test_what_killed_processes_leave_is_staged_by_the_first(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    expected = in_one_process(shop)
    forget_publications(shop)
    assert run(shop, load_one_that_dies).users == 40
    assert seen(shop) == expected
    assert "a process was killed" in caplog.text
    assert max(row["attempt"] for row in shop.rows("select attempt from staging.shards")) > 1


@pytest.mark.usefixtures("others_first")
def test_an_error_in_a_process_ends_the_publication_and_nobody_waits_for_it(shop: Shop) -> None:
    with pytest.raises(RegistryError, match="not finite"):
        run(shop, load_something_broken)
    assert states(shop) == ["closed"]
    assert shop.lists() == {}
    assert run(shop).users == 40


def test_more_models_than_fit_are_refused_before_a_process_starts(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("one was started"))
    with pytest.raises(ConfigurationError, match="use fewer --processes"):
        run(shop, number=1 << 50)
    assert states(shop) == []


def test_few_users_start_no_process(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("one was started"))
    shop.execute("delete from feedback where user_id > 'user 15'")
    shop.execute("delete from users where user_id > 'user 15'")
    assert run(shop).users == 16


def test_processes_that_are_killed_while_the_plan_is_made_leave_all_of_it_to_the_first(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Killed:
        """A pool whose processes load the champion and are gone."""

        def __init__(self, *_: Any, **__: Any) -> None:
            self.calls = 0

        def submit(self, *_: Any) -> None:
            self.calls += 1
            if self.calls > 1:
                raise BrokenProcessPool

        def shutdown(self, **_: Any) -> None:
            pass

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Killed)
    assert run(shop).users == 40
    assert "a process was killed" in caplog.text


@pytest.mark.usefixtures("others_first")
def test_a_champion_that_is_replaced_meanwhile_is_published_instead(shop: Shop) -> None:
    assert run(shop, load_while_another_is_promoted).model_version == "2"
    assert states(shop) == ["closed", "published"]
