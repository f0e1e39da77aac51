"""`recsys simulate` on the smallest possible world."""

import csv
import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recsys.commands.main import app
from recsys.errors import SimulationError
from recsys.local.postgres import PostgresServer
from tests.small_models import write_tiny_encoder
from tests.synthetic import World


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MovieLens files."""
    folder = tmp_path_factory.mktemp("ratings")
    world = World(users=60, events_per_user=14)
    with (folder / "movies.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["movieId", "title", "genres"])
        rows.writerows((i["item_id"], i["title"], i["attributes"]["genre"]) for i in world.items)
    with (folder / "ratings.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["userId", "movieId", "rating", "timestamp"])
        rows.writerows((e["user_id"], e["item_id"], e["value"], n) for n, e in enumerate(world.events))
    return folder


def _simulate(ratings: Path, *options: object):
    words = [str(option) for option in options]
    return CliRunner().invoke(app, ["simulate", "--data", str(ratings), *words], catch_exceptions=True)


@pytest.mark.slow
def test_policies_are_simulated_on_separate_systems(
    ratings: Path, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = write_tiny_encoder(tmp_path / "encoder")
    for name, value in {
        # The run fails if anything connects to the real warehouse.
        "RECSYS_WAREHOUSE_URL": "postgresql+psycopg2://nobody@localhost:1/real",
        "RECSYS_HOME": str(tmp_path / "real"),
        "RECSYS_MODEL__BASE_ENCODER": str(encoder),
        "RECSYS_TRAINING__EPOCHS": "3",
        "RECSYS_TRAINING__THREADS": "1",
        "RECSYS_MICRO_UPDATE__EPOCHS": "1",
        "RECSYS_MICRO_UPDATE__MIN_FRESH_EVENTS": "5",
        "RECSYS_EVALUATION__BOOTSTRAP_RESAMPLES": "200",
        "RECSYS_GATE__MIN_EVALUATED_USERS": "1",
        # Tiny models are no good; this tests the loop.
        **{
            f"RECSYS_GATE__{of}_MARGIN": "9" for of in ("NON_INFERIORITY", "SLICE", "COVERAGE", "LIST", "AUC")
        },
        "RECSYS_GATE__ON_FAIL": '{"better_than_popularity": "ignore"}',
        "RECSYS_GATE__ON_INCONCLUSIVE": '{"better_than_popularity": "ignore"}',
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "160")  # the table wraps in narrower terminals
    home, out = tmp_path / "home", tmp_path / "out"
    ran = _simulate(
        ratings, "--users", 40, "--items", 60, "--days", 2, "--hours", 1, "--history", 8, "--explore", 0.3,
        "--new-items", 0.1, "--home", home, "--out", out, "--postgres", postgres.url("postgres"),
        "--policy", "frozen", "--policy", "nightly+hourly", "--policy", "experiment", "--bad-nights", 1,
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output + repr(ran.exception)

    policies = json.loads((out / "simulation.json").read_text())["policies"]
    assert list(policies) == ["frozen", "nightly+hourly", "experiment"]
    # Until the first training, all policies have the same world, lists and luck.
    for policy in policies.values():
        assert policy["days"][0] == policies["frozen"]["days"][0]
        assert policy["clicks"][0] == policies["frozen"]["clicks"][0]
    assert all(0 < day["value"] < 10 for policy in policies.values() for day in policy["days"])
    assert [sum(policy["nights"].values()) for policy in policies.values()] == [0, 1, 1]
    assert [sum(policy["hours"].values()) for policy in policies.values()] == [0, 2, 0]
    assert "fail" not in policies["nightly+hourly"]["hours"]
    by_gate, by_users = (policies[name]["candidates"][0] for name in ("nightly+hourly", "experiment"))
    assert [by_gate["is_bad"], by_users["is_bad"]] == [True, True]
    assert by_gate["promoted"] == by_gate["passed"]
    # A frozen policy shows the champion's lists to those who come.
    assert policies["frozen"]["days"][1]["value"] == pytest.approx(by_users["champion_value"], rel=0.25)
    # Too few users for an experiment to show anything.
    assert [by_users["passed"], by_users["promoted"]] == [True, False]
    assert by_users["decision"] == "no_difference_shown"
    assert "0 of 1 nights" in ran.output
    assert (out / "simulation.png").read_bytes().startswith(b"\x89PNG")
    assert "all days after the first" in ran.output

    # Drawn lists are logged with their propensities.
    import pyarrow.parquet as pq

    shown = pq.read_table(home / "files" / "frozen" / "2-0-impressions.parquet").to_pylist()
    assert any(0 < p < 1 for slate in shown for p in slate["propensities"])
    assert {slate["model_version"] for slate in shown} == {"1"}
    shown = pq.read_table(home / "files" / "experiment" / "2-0-impressions.parquet").to_pylist()
    assert {slate["model_version"] for slate in shown} == {"1", "2"}
    engine = sa.create_engine(postgres.url("postgres"))
    with engine.connect() as connection:
        left = connection.execute(
            sa.text("SELECT count(*) FROM pg_database WHERE datname LIKE 'recsys_simulation%'")
        )
        assert left.scalar_one() == 0
    assert not (tmp_path / "real").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "magic"], "unknown policy 'magic'; choose from frozen, nightly"),
        (["--users", "1000"], "ratings of 60 users: simulate at most so many, not 1000"),
        (["--users", "10", "--items", "1000"], "ratings of 80 items: simulate at most so many, not 1000"),
    ],
)
def test_impossible_options_are_an_error(
    ratings: Path, postgres: PostgresServer, tmp_path: Path, options: list[str], message: str
) -> None:
    ran = _simulate(ratings, *options, "--out", tmp_path, "--postgres", postgres.url("postgres"))
    assert isinstance(ran.exception, SimulationError)
    assert message in str(ran.exception)


def test_a_home_folder_that_is_not_empty_is_left_alone(ratings: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ran = _simulate(ratings, "--home", tmp_path)
    assert isinstance(ran.exception, SimulationError)
    assert "not an empty folder" in str(ran.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
