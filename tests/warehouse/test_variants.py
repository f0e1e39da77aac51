"""Items that are one thing: proposed from equal titles, accepted by a person through a file."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recsys.commands.main import app
from recsys.errors import ConfigurationError
from recsys.publishing.histories import read_catalogue
from recsys.settings import Settings
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.roles import WRITER, grant_roles
from recsys.warehouse.variants import Proposal, propose_variants


@pytest.fixture
def films(warehouse: sa.Engine) -> sa.Engine:
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO items (item_id, title, attributes) VALUES"
            """ ('3', 'The Butcher Boy', '{"year": 1997}'), ('1', ' the butcher  boy', '{"year": 1997}'),"""
            """ ('2', 'The Butcher Boy', '{"year": 1917}'), ('4', '', '{}'), ('5', '', '{}'),"""
            """ ('6', '=Hamlet', '{}'), ('7', '=Hamlet', '{}'), ('8', 'Emma', '{}')"""
        )
    return warehouse


def lines(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="") as file:
        return [(row["item_id"], row["variant_of"]) for row in csv.DictReader(file)]


def groups(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        catalogue = read_catalogue(connection)
    return {
        item_id: catalogue.item_ids[first]
        for item_id, first in zip(catalogue.item_ids, catalogue.group, strict=True)
    }


def test_items_with_equal_title_and_attributes_are_proposed_and_accepted(
    films: sa.Engine, tmp_path: Path
) -> None:
    path = tmp_path / "variants.csv"
    assert propose_variants(films, path) == Proposal(4, 2)
    assert lines(path) == [("1", "1"), ("3", "1"), ("6", "6"), ("7", "6")]
    with films.begin() as connection:
        connection.exec_driver_sql("UPDATE items SET title = 'The Butcher Boy (1997)' WHERE item_id = '1'")
    summary = ingest_file(films, "items", path)
    assert (summary.updated, summary.rejected, summary.unknown_columns) == (4, 0, ())
    assert groups(films) == {"1": "1", "2": "2", "3": "1", "4": "4", "5": "5", "6": "6", "7": "6", "8": "8"}
    with films.begin() as connection:
        title = "SELECT title FROM items WHERE item_id = '1'"
        assert connection.exec_driver_sql(title).scalar() == "The Butcher Boy (1997)"
        connection.exec_driver_sql("INSERT INTO items (item_id, title) VALUES ('9', '=HAMLET')")
    # What is accepted is not proposed again, and a new item joins the group that exists.
    again = tmp_path / "again.csv"
    assert propose_variants(films, again) == Proposal(1, 1)
    assert lines(again) == [("9", "6")]


def test_items_that_a_person_kept_apart_are_not_proposed_again(films: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "decided.csv"
    path.write_text("item_id,variant_of\n1,1\n3,3\n6,6\n7,7\n")
    ingest_file(films, "items", path)
    assert propose_variants(films, tmp_path / "variants.csv") == Proposal(0, 0)
    assert not (tmp_path / "variants.csv").exists()
    assert groups(films)["3"] == "3"


def test_a_file_that_somebody_may_have_edited_is_not_replaced(films: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "variants.csv"
    path.write_text("mine")
    with pytest.raises(ConfigurationError, match="may hold what somebody decided"):
        propose_variants(films, path)
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["variants.csv"]


def test_a_file_that_cannot_be_written_is_named(films: sa.Engine, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"gone/v.csv cannot be written \(No such file or directory\)"
    ):
        propose_variants(films, tmp_path / "gone" / "v.csv")


def test_two_people_may_propose_at_once(films: sa.Engine, tmp_path: Path) -> None:
    path = tmp_path / "variants.csv"

    def propose(_: int) -> Proposal | None:
        try:
            return propose_variants(films, path)
        except ConfigurationError:
            return None  # the other one was there first

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(propose, range(4)))
    assert found - {None} == {Proposal(4, 2)}
    assert [file.name for file in tmp_path.iterdir()] == ["variants.csv"]
    assert len(lines(path)) == 4


def test_the_command_says_what_to_do_next(
    films: sa.Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", settings.require_warehouse_url())
    path = tmp_path / "variants.csv"
    result = CliRunner().invoke(app, ["variants", "propose", "--output", str(path)])
    assert result.exit_code == 0, result.output
    assert (
        f"4 items look like 2 things. Check the file, then run `recsys ingest items {path}`" in result.output
    )
    text = path.read_text()
    assert "title: =Hamlet" in text  # not a formula


def test_a_group_needs_a_name_and_an_application_may_give_it(warehouse: sa.Engine) -> None:
    nameless = pytest.raises(sa.exc.IntegrityError, match="items_variant_of_is_not_empty")
    with nameless, warehouse.begin() as connection:
        connection.exec_driver_sql("INSERT INTO items (item_id, variant_of) VALUES ('a', '')")
    with warehouse.begin() as connection:
        grant_roles(connection)
        statement = "SELECT has_column_privilege(%s, 'items', 'variant_of', 'INSERT, UPDATE')"
        assert connection.exec_driver_sql(statement, (WRITER,)).scalar()
