import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recsys.commands.main import app
from recsys.errors import ConfigurationError
from recsys.settings import Settings
from recsys.warehouse.roles import PIPELINE
from recsys.warehouse.windows import open_window


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", settings.require_warehouse_url())
    monkeypatch.setenv("COLUMNS", "200")


def add_rows(engine: sa.Engine, count: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO feedback (user_id, item_id, event_type)"
                " SELECT 'ann', 'a', 'view' FROM generate_series(1, :count)"
            ),
            {"count": count},
        )


def test_a_user_who_owns_nothing_is_told_to_migrate_as_the_owner(
    warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"no_owner_{warehouse.url.database}"
    with warehouse.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN IN ROLE {PIPELINE}")
    url = warehouse.url.set(username=name).render_as_string(hide_password=False)
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", url)
    result = CliRunner().invoke(app, ["migrate"])
    assert isinstance(result.exception, ConfigurationError)
    assert "as the owner of the database" in str(result.exception)


def test_balanced_windows_are_shown_with_their_counts(warehouse: sa.Engine, wide: None) -> None:
    assert "There are no windows yet." in CliRunner().invoke(app, ["reconcile"]).output
    add_rows(warehouse, 1_234)
    open_window(warehouse, "nightly", "a run")
    open_window(warehouse, "hourly", "another run")
    result = CliRunner().invoke(app, ["reconcile", "--consumer", "nightly"])
    assert result.exit_code == 0
    assert "1,234" in result.output
    assert "hourly" not in result.output


def test_missing_rows_are_an_error(warehouse: sa.Engine, wide: None) -> None:
    add_rows(warehouse, 3)
    window = open_window(warehouse, "nightly", "a run")
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("DELETE FROM feedback WHERE feedback_id = (SELECT min(feedback_id) FROM feedback)")
        )
    result = CliRunner().invoke(app, ["reconcile"])
    assert result.exit_code == 1
    assert f"Row counts do not match in window {window.window_id}." in result.output
    with warehouse.connect() as connection:
        assert connection.scalar(sa.text("SELECT valid FROM windows")) == 2
