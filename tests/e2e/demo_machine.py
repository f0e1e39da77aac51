"""A home folder of its own in which the demo runs, on a small world."""

import csv
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests.synthetic import World

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
        # A catalogue has films that hardly anybody has met.
        rarely_seen, unseen = len(numbers) + 1, len(numbers) + 2
        writer.writerow([rarely_seen, "The Rarely Seen (1999)", "crime"])
        writer.writerow([unseen, "Unseen (1999)", "space"])
    with (folder / "ratings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["userId", "movieId", "rating", "timestamp"])
        for event in world.events:
            moment = int(datetime.fromisoformat(event["occurred_at"]).timestamp())
            writer.writerow(
                [int(event["user_id"][1:]) + 1, numbers[event["item_id"]], event["value"], moment]
            )
        writer.writerow([1, rarely_seen, 4, moment])
    return folder


class Machine:
    """A home folder and the `recsys` command."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.data = _write_movielens(World(), folder / "movielens")
        self.environment = os.environ | SETTINGS | {"RECSYS_HOME": str(self.home), "COLUMNS": "120"}

    def recsys(self, *arguments: str) -> str:
        completed = subprocess.run(
            [sys.executable, "-m", "recsys.commands.main", *arguments],
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
