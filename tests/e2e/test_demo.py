"""The loop from the command line, through the real scheduler and executor, on a small world."""

from typing import Any

import pytest

from tests.e2e.demo_machine import Machine
from tests.synthetic import World

pytestmark = pytest.mark.e2e


def test_the_demo_trains_promotes_publishes_and_updates(first: tuple[str, dict[str, Any]]) -> None:
    output, report = first
    assert report["nightly"]["state"] == report["hourly"]["state"] == "success", output[-4000:]
    assert report["nightly"]["decision"] == report["hourly"]["decision"] == "promote"
    assert (report["nightly"]["version"], report["hourly"]["version"]) == ("1", "2")
    assert report["champion_version"] == "2"
    assert {"popularity", "collaborative_filtering"} <= set(report["nightly"]["baselines"])
    assert 0 < report["nightly"]["metrics"]["ndcg_at_10"] <= 1


def test_the_demo_accounts_for_every_event(machine: Machine, first: tuple[str, dict[str, Any]]) -> None:
    _, report = first
    with (machine.data / "ratings.csv").open() as file:
        ratings = sum(1 for _ in file) - 1
    assert report["rows_loaded"] - ratings == report["rows_quarantined"] > 0
    assert report["reconciled"] is True
    assert report["published_users"] == len(World().taste)


def test_the_demo_shows_titles_and_reasons_to_a_person(first: tuple[str, dict[str, Any]]) -> None:
    output, _ = first
    assert "Champion: version 2" in output
    assert "unknown_item" in output
    assert "recommended after" in output


def test_the_demo_leaves_no_process_behind(machine: Machine, first: tuple[str, dict[str, Any]]) -> None:
    assert machine.processes() == []


def test_a_second_demo_loads_nothing_twice_and_keeps_the_champion(
    machine: Machine, first: tuple[str, dict[str, Any]]
) -> None:
    _, before = first
    _, report = machine.demo()
    assert report["rows_loaded"] == before["rows_loaded"]
    assert report["champion_version"] == before["champion_version"]
    assert report["nightly"]["state"] == report["hourly"]["state"] == "skipped"
    assert machine.processes() == []
