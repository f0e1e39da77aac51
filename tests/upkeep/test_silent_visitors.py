"""Retention of visitors whom nobody has joined."""

import pytest
import sqlalchemy as sa

from recsys.settings import RetentionSettings, Settings
from recsys.upkeep import visitors as visitors_module
from recsys.upkeep.visitors import delete_silent_visitors, give_slates_to_users
from recsys.validation.validate import validate_window
from recsys.warehouse.windows import Window, open_window, reconcile_window


def run(engine: sa.Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def kept(settings: Settings) -> Settings:
    """Settings that keep visitors for 30 days."""
    return settings.model_copy(update={"retention": RetentionSettings(visitors_days=30)})


@pytest.fixture
def window(warehouse: sa.Engine, settings: Settings) -> Window:
    """Five silent sessions with two events each, one that came back yesterday, and a silent user."""
    run(
        warehouse,
        """
        INSERT INTO items (item_id) VALUES ('1'), ('2');
        INSERT INTO users (user_id) VALUES ('ada');
        INSERT INTO feedback (user_id, session_id, item_id, event_type)
        SELECT person.user_id, person.session_id, item_id, 'view'
        FROM items
        CROSS JOIN (
            SELECT 'ada' AS user_id, NULL AS session_id
            UNION ALL SELECT NULL, 's' || n FROM generate_series(1, 5) AS n
            UNION ALL SELECT NULL, 'back'
        ) AS person;
        INSERT INTO feedback (session_id, item_id, event_type) VALUES ('s1', 'unknown', 'view');
        INSERT INTO impressions (impression_id, session_id, item_ids, shown_at)
        VALUES ('p', 's1', '{1}', now())
        """,
    )
    window = open_window(warehouse, "nightly_training", "r")
    validate_window(warehouse, window, settings, settings.data_docs)
    run(
        warehouse,
        """
        UPDATE users SET created_at = created_at - interval '31 days';
        UPDATE feedback SET received_at = received_at - interval '31 days';
        INSERT INTO feedback (session_id, item_id, event_type) VALUES ('back', '1', 'view')
        """,
    )
    return window


def people(engine: sa.Engine) -> set[object]:
    return {row[0] for row in run(engine, "SELECT user_id FROM feedback UNION SELECT user_id FROM users")}


def test_silent_visitors_go_and_everybody_else_stays(
    warehouse: sa.Engine, kept: Settings, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitors_module, "_TOGETHER", 2)
    run(warehouse, "SELECT join_session('s5', 'ada')")
    assert delete_silent_visitors(warehouse, kept) == 4
    assert people(warehouse) == {"ada", "visitor:back", "visitor:s5"}
    assert run(warehouse, "SELECT count(*) FROM quarantine") == [(0,)]
    assert run(warehouse, "SELECT count(*) FROM impressions") == [(0,)]
    assert reconcile_window(warehouse, window.window_id).balanced
    assert delete_silent_visitors(warehouse, kept) == 0


def test_the_deletion_is_on_record_without_names_and_no_model_is_replaced_for_it(
    warehouse: sa.Engine, kept: Settings, window: Window
) -> None:
    delete_silent_visitors(warehouse, kept)
    [(status, user, key, first, rows)] = run(
        warehouse,
        "SELECT status, user_id, user_key, first_transaction_id,"
        " (receipt -> 'rows_removed' -> 'feedback')::int"
        " FROM erasure_requests",
    )
    assert (status, user, key, first, rows) == ("done", None, None, None, 10)


def test_a_refusal_is_kept_without_the_feedback(warehouse: sa.Engine, kept: Settings, window: Window) -> None:
    run(warehouse, "SELECT set_session_consent('s1', false)")
    assert delete_silent_visitors(warehouse, kept) == 4
    assert people(warehouse) == {"ada", "visitor:back", "visitor:s1"}
    assert run(warehouse, "SELECT count(*) FROM feedback WHERE user_id = 'visitor:s1'") == [(0,)]
    assert delete_silent_visitors(warehouse, kept) == 0


def test_a_file_about_last_year_stays_as_long_as_other_feedback(warehouse: sa.Engine, kept: Settings) -> None:
    run(
        warehouse,
        "INSERT INTO users (user_id, kind) VALUES ('visitor:old', 'visitor');"
        "INSERT INTO feedback (session_id, item_id, event_type, occurred_at)"
        " VALUES ('old', '1', 'view', now() - interval '1 year')",
    )
    assert delete_silent_visitors(warehouse, kept) == 0


def test_a_slate_written_during_a_login_goes_to_the_user(warehouse: sa.Engine) -> None:
    run(
        warehouse,
        "INSERT INTO users (user_id) VALUES ('ada');"
        "SELECT join_session('s1', 'ada');"
        "INSERT INTO impressions (impression_id, user_id, session_id, item_ids, shown_at)"
        " VALUES ('p', 'visitor:s1', 's1', '{1}', now())",
    )
    assert give_slates_to_users(warehouse) == 1
    assert run(warehouse, "SELECT user_id FROM impressions") == [("ada",)]
