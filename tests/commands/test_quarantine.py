from collections.abc import Callable

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recsys.commands.main import app
from recsys.settings import Settings
from recsys.validation.quarantine import list_quarantined, quarantine_window
from recsys.validation.rules import row_rules
from recsys.warehouse.windows import Window
from tests.validation.conftest import add_feedback, sound_rows


@pytest.fixture
def run(
    stocked: sa.Engine,
    next_window: Callable[..., Window],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., str]:
    add_feedback(stocked, *sound_rows(1), {"item_id": "new", "comment": "a private opinion"})
    with stocked.begin() as connection:
        quarantine_window(connection, next_window(), row_rules(), settings.validation)
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", settings.require_warehouse_url())

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["quarantine", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_rows_are_listed_shown_and_settled(run: Callable[..., str], stocked: sa.Engine) -> None:
    quarantine_id = str(list_quarantined(stocked)[0].quarantine_id)
    listed = run("list")
    assert "unknown_item" in listed
    assert "ann" not in listed
    assert "a private opinion" not in listed
    assert "a private opinion" in run("show", quarantine_id)
    assert f"released {quarantine_id}" in run("release", quarantine_id)
    assert "status: released by" in run("show", quarantine_id)
    assert "No such rows" in run("list")
    assert "unknown_item" in run("list", "--status", "all", "--reason", "unknown_item")


def test_brackets_in_ids_are_shown_as_they_are(
    run: Callable[..., str], stocked: sa.Engine, next_window: Callable[..., Window], settings: Settings
) -> None:
    add_feedback(stocked, {"item_id": "[/x]"}, {"item_id": "[REC]"})
    with stocked.begin() as connection:
        quarantine_window(connection, next_window(), row_rules(), settings.validation)
    listed = run("list")
    assert "[/x]" in listed
    assert "[REC]" in listed


def test_a_row_is_discarded(run: Callable[..., str], stocked: sa.Engine) -> None:
    quarantine_id = str(list_quarantined(stocked)[0].quarantine_id)
    assert f"discarded {quarantine_id}" in run("discard", quarantine_id)


def test_rows_are_released_by_reason(run: Callable[..., str], stocked: sa.Engine) -> None:
    assert "released 0 rows; 1 with the reason unknown_item stay" in run(
        "release", "--reason", "unknown_item"
    )
    with stocked.begin() as connection:
        connection.execute(sa.text("INSERT INTO items (item_id) VALUES ('new')"))
    assert "released 1 rows; 0 with the reason" in run("release", "--reason", "unknown_item")


def test_release_needs_ids_or_a_reason(run: Callable[..., str]) -> None:
    for arguments in ((), ("1", "--reason", "unknown_item")):
        result = CliRunner().invoke(app, ["quarantine", "release", *arguments])
        assert result.exit_code == 2
        assert "give ids of rows, or --reason" in result.output
