"""The demo: the whole loop in one command."""

from recsys.local.stack import stack_state
from recsys.local.state import StackPhase
from tests.e2e.conftest import Demo, Stopped
from tests.e2e.stack import Stack


def test_the_demo_trains_promotes_publishes_and_updates(demo: Demo) -> None:
    report = demo.report
    assert report["nightly"]["state"] == report["hourly"]["state"] == "success", demo.output[-4000:]
    assert report["nightly"]["decision"] == report["hourly"]["decision"] == "promote"
    assert (report["nightly"]["version"], report["hourly"]["version"]) == ("1", "2")
    assert report["champion_version"] == "2"
    assert {"popularity", "collaborative_filtering"} <= set(report["nightly"]["baselines"])
    assert 0 < report["nightly"]["metrics"]["ndcg_at_10"] <= 1


def test_the_demo_accounts_for_every_event(stack: Stack, demo: Demo) -> None:
    rows = 0
    for loaded in (stack.data / "ratings.csv", stack.comments):
        with loaded.open() as file:
            rows += sum(1 for _ in file) - 1
    assert demo.report["rows_loaded"] - rows == demo.report["rows_quarantined"] > 0
    assert demo.report["reconciled"] is True
    assert demo.report["published_users"] == len(stack.world.taste)


def test_the_demo_shows_titles_and_reasons_to_a_person(demo: Demo) -> None:
    assert "Champion: version 2" in demo.output
    assert "unknown_item" in demo.output
    assert "recommended after" in demo.output
    assert "shown a moment later" in demo.output


def test_the_demo_leaves_a_stack_running_that_was_up_before(stack: Stack, demo: Demo) -> None:
    assert stack_state(stack.home).phase is StackPhase.HEALTHY


def test_a_second_demo_loads_nothing_twice_keeps_the_champion_and_stops_the_stack_it_started(
    stack: Stack, stopped: Stopped
) -> None:
    _, report = stack.demo()
    assert report["rows_loaded"] == stopped.rows_before
    assert report["champion_version"] == stopped.champion_before
    assert report["nightly"]["state"] == report["hourly"]["state"] == "skipped"
    assert stack_state(stack.home).phase is StackPhase.STOPPED
    assert stack.processes() == []
