"""The loop from the command line, through the real scheduler and executor, on a small world."""

import csv
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.synthetic import World

pytestmark = pytest.mark.e2e

SETTINGS = {
    "RECSYS_MODEL__DIM": "32",
    "RECSYS_TRAINING__EPOCHS": "8",
    "RECSYS_EVALUATION__HOLDOUT_SHARE": "0.2",
    "RECSYS_EVALUATION__BOOTSTRAP_RESAMPLES": "500",
    "RECSYS_GATE__MIN_EVALUATED_USERS": "10",
    "RECSYS_GATE__NON_INFERIORITY_MARGIN": "0.5",
    "RECSYS_PUBLISHING__K": "10",
}


def _write_movielens(world: World, folder: Path) -> Path:
    """Write the world in the layout of MovieLens' CSV releases."""
    folder.mkdir()
    numbers = {item["item_id"]: number for number, item in enumerate(world.items, start=1)}
    with (folder / "movies.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["movieId", "title", "genres"])
        for item in world.items:
            writer.writerow(
                [numbers[item["item_id"]], f"{item['title']} (1999)", item["attributes"]["genre"]]
            )
    with (folder / "ratings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["userId", "movieId", "rating", "timestamp"])
        for event in world.events:
            moment = int(datetime.fromisoformat(event["occurred_at"]).timestamp())
            writer.writerow(
                [int(event["user_id"][1:]) + 1, numbers[event["item_id"]], event["value"], moment]
            )
    return folder


class Machine:
    """A home folder and the `recsys` command."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.data = _write_movielens(World(), folder / "movielens")
        self.environment = os.environ | SETTINGS | {"RECSYS_HOME": str(self.home), "COLUMNS": "120"}

    def recsys(self, *arguments: str) -> str:
        completed = subprocess.run(
            [sys.executable, "-m", "recsys.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert completed.returncode == 0, (completed.stdout + completed.stderr)[-8000:]
        return completed.stdout

    def demo(self) -> tuple[str, dict[str, Any]]:
        output = self.recsys("demo", "--data", str(self.data))
        return output, json.loads((self.home / "demo-report.json").read_text())

    def processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            try:
                if process.environ().get("RECSYS_HOME") == str(self.home):
                    found.append(" ".join(process.info["cmdline"]))
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def first(machine: Machine) -> tuple[str, dict[str, Any]]:
    return machine.demo()


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
