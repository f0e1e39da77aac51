"""The page in the Airflow UI: who may see it and what it shows."""

import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import sqlalchemy as sa

from recsys.promotion import ledger
from recsys.warehouse.analytics import install_analytics

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture
def busy(warehouse: sa.Engine) -> sa.Engine:
    """A warehouse after a few runs."""
    install_analytics(warehouse)
    ledger.promote(
        warehouse, "7", None, reason="better", explanation="NDCG@10 rose by 0.02.", actor="nightly_training"
    )
    ledger.record_decision(
        warehouse,
        action="reject",
        version="8",
        reason="forgetting",
        explanation="<script>alert('8')</script> forgot too much.",
        actor="hourly_micro_update",
    )
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO model_evaluations"
            " (run_key, model_version, scorer, slice, metric, value, low, high, users) VALUES"
            " ('night-1', '7', 'candidate', 'all', 'ndcg_at_10', 0.1234, 0.11, 0.13, 943),"
            " ('night-1', NULL, 'popularity', 'all', 'ndcg_at_10', 0.0456, NULL, NULL, 943)"
        )
        connection.exec_driver_sql(
            "INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived,"
            " valid, quarantined, duplicates, erased) VALUES"
            " ('nightly_training', 'a', 0, 10, 90123, 90000, 123, 0, 0),"
            " ('hourly_micro_update', 'b', 0, 10, 9, 5, 2, 0, 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)"
            " SELECT 1, min(window_id), '{unknown_item}', 'secret user', 1, '{}' FROM windows"
        )
        connection.exec_driver_sql(
            "INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id)"
            " VALUES ('p', '7', 'all', 943, 1682, 10)"
        )
    return warehouse


def test_without_a_session_the_page_is_refused(client: Any, busy: sa.Engine) -> None:
    answer = client.get("/recommender/")
    assert answer.status_code == 401
    assert "Sign in" in answer.text
    assert "Version 7" not in answer.text


def test_with_a_forged_session_cookie_the_page_is_refused(client: Any, busy: sa.Engine) -> None:
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN

    client.cookies.set(COOKIE_NAME_JWT_TOKEN, "forged")
    assert client.get("/recommender/").status_code == 403


def test_a_user_without_a_role_is_refused(signed_in: Any, plugin: ModuleType, busy: sa.Engine) -> None:
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    overrides = plugin.build_application().dependency_overrides
    overrides[get_user] = lambda: SimpleAuthManagerUser(username="eve", role=None)
    assert signed_in.get("/recommender/").status_code == 403


def test_no_other_path_is_served(client: Any) -> None:
    for path in ("docs", "redoc", "openapi.json"):
        assert client.get(f"/recommender/{path}").status_code == 404


def test_a_signed_in_viewer_sees_champion_metrics_decisions_and_data(signed_in: Any, busy: sa.Engine) -> None:
    answer = signed_in.get("/recommender/")
    assert answer.status_code == 200
    for shown in (
        "Version 7",
        "NDCG@10 rose by 0.02.",
        "0.1234",
        ">NDCG@10</th>",
        "0.1100 to 0.1300",
        "popularity",
        "0.0456",
        "forgetting",
        "90,123",
        "balanced",
        "2 missing",
        "unknown_item",
        "1,682",
    ):
        assert shown in answer.text, shown
    assert "secret user" not in answer.text
    assert "<script>alert" not in answer.text


def test_four_weeks_are_drawn_and_say_their_figures(signed_in: Any, busy: sa.Engine) -> None:
    with busy.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO monitored_figures SELECT current_date - n, 'response_share', label, 0.1 + n / 100.0"
            " FROM generate_series(0, 40) AS n, unnest(ARRAY['home', '<b>', '']) AS label"
        )
        connection.exec_driver_sql(
            "INSERT INTO model_evaluations (run_key, scorer, slice, metric, value, users, evaluated_at)"
            " SELECT 'nightly_training/' || n, scorer, 'all', 'ndcg_at_10', 0.2, 943,"
            " now() - n * interval '1 day'"
            " FROM generate_series(0, 3) AS n, unnest(ARRAY['candidate', 'popularity']) AS scorer"
        )
    page = signed_in.get("/recommender/").text
    answered, nights = (ElementTree.fromstring(svg) for svg in re.findall("<svg.*?</svg>", page))
    assert "home 10.0%" in answered.get("aria-label", "")
    assert "not stated 10.0%" in answered.get("aria-label", "")
    assert nights.get("aria-label") == "NDCG in the nights: candidate 0.2000, popularity 0.2000"
    assert [len(line.get("points", "").split()) for line in answered.iter("polyline")] == [29] * 3
    assert len(list(nights.iter("circle"))) == 8
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "style=" not in page  # the policy refuses it


def test_a_running_experiment_is_shown_with_its_newest_look(signed_in: Any, busy: sa.Engine) -> None:
    assert "<h2>Experiment</h2>" not in signed_in.get("/recommender/").text
    with busy.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO experiments (name, challenger, champion, challenger_share, success, guardrails,"
            " days, started_by) VALUES ('summer', '8', '7', 0.5, '{click_through}', '{}', 28, 'ann')"
        )
    assert "Nobody has looked at it yet." in signed_in.get("/recommender/").text
    with busy.begin() as connection:
        connection.exec_driver_sql(
            """
            INSERT INTO experiment_readouts (experiment_id, run_key, read_at, until, share, users,
                mismatch_p_value, left_out, readings, outcome)
            SELECT experiment_id, 'look ' || value, now() - make_interval(days => days_ago), now(), 0.25,
                '{"control": 1234, "challenger": 1200}', 0.5, '{}', jsonb_build_array(
                    jsonb_build_object('metric', 'click_through', 'role', 'success', 'control', 0.1,
                        'challenger', value, 'difference', value - 0.1, 'low', 0.004, 'verdict', 'better'),
                    jsonb_build_object('metric', 'dislikes', 'role', 'guardrail')
                ), 'running'
            FROM experiments CROSS JOIN (VALUES (1, 0.09), (1, 0.11), (0, 0.12)) AS look (days_ago, value)
            """
        )
    shown = signed_in.get("/recommender/").text
    for expected in (
        "summer: version 8 against the champion",
        "25.0% of the planned time",
        "0.0040 to -",
        "1,234",
        "Click through: challenger 0.1200, champion 0.1000",
    ):
        assert expected in shown
    # The last look of each day; nothing of a metric of too few people.
    assert [value for value in ("0.0900", "0.1100", "0.1200") if f": {value}</title>" in shown] == [
        "0.1100",
        "0.1200",
    ]
    assert "Dislikes" not in shown


def test_only_airflow_may_frame_the_page_and_only_its_own_script_runs(signed_in: Any) -> None:
    policy = signed_in.get("/recommender/").headers["content-security-policy"]
    assert "frame-ancestors 'self'" in policy
    assert "default-src 'none'" in policy


def test_a_panel_that_is_slow_is_left_out_and_the_others_are_shown(
    signed_in: Any, busy: sa.Engine, plugin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "_STATEMENT_TIMEOUT_MILLISECONDS", 200)
    slow = {"coverage": "select pg_sleep(9)", "decisions": "select pg_sleep(9)"}
    monkeypatch.setattr(plugin, "_QUERIES", plugin._QUERIES | slow)
    answer = signed_in.get("/recommender/")
    assert answer.status_code == 200
    assert answer.text.count("The warehouse took too long to answer") == 2
    assert "No decisions yet" not in answer.text
    for shown in ("Version 7", "90,123", "unknown_item", "1,682"):
        assert shown in answer.text


def test_a_page_with_many_slow_panels_gives_up_early(
    signed_in: Any, busy: sa.Engine, plugin: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "_STATEMENT_TIMEOUT_MILLISECONDS", 200)
    monkeypatch.setattr(plugin, "_QUERIES", dict.fromkeys(plugin._QUERIES, "select pg_sleep(9)"))
    started = time.monotonic()
    answer = signed_in.get("/recommender/")
    assert answer.status_code == 200
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "path", ["data-docs?run=%00", "data-docs?run=%ff", "data-docs/99999999999999999999999/"]
)
def test_what_no_run_or_window_can_be_named_is_not_found(
    signed_in: Any, warehouse: sa.Engine, path: str
) -> None:
    assert signed_in.get(f"/recommender/{path}").status_code == 404


def test_an_empty_warehouse_says_how_to_start(signed_in: Any, warehouse: sa.Engine) -> None:
    install_analytics(warehouse)
    answer = signed_in.get("/recommender/")
    assert answer.status_code == 200
    assert "There is no champion yet" in answer.text


def test_a_warehouse_without_views_says_what_to_run(signed_in: Any) -> None:
    answer = signed_in.get("/recommender/")
    assert answer.status_code == 503
    assert "recsys migrate" in answer.text


def test_an_unreachable_warehouse_is_shown_without_its_password(
    signed_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", "postgresql://someone:hidden@127.0.0.1:1/feedback")
    answer = signed_in.get("/recommender/")
    assert answer.status_code == 503
    assert "someone:***@127.0.0.1:1/feedback" in answer.text
    assert "hidden" not in answer.text


def test_a_missing_setting_is_named(signed_in: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RECSYS_WAREHOUSE_URL")
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    answer = signed_in.get("/recommender/")
    assert answer.status_code == 503
    assert "RECSYS_WAREHOUSE_URL" in answer.text


def test_the_page_is_read_only_and_has_a_statement_timeout(
    plugin: ModuleType, client: Any, warehouse: sa.Engine
) -> None:
    engine = plugin._engine()
    with engine.connect() as connection, pytest.raises(sa.exc.InternalError, match="read-only"):
        connection.exec_driver_sql("INSERT INTO items (item_id) VALUES ('x')")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "3s"


def test_airflow_loads_the_plugin_without_heavy_libraries(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from airflow import plugins_manager\n"
        "before = set(sys.modules)\n"
        "plugins, errors = plugins_manager._load_plugins_from_plugin_directory(sys.argv[1])\n"
        "assert not errors, errors\n"
        "[plugin] = [plugin for plugin in plugins if plugin.name == 'recommender']\n"
        "assert plugin.external_views and plugin.fastapi_apps\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "heavy = loaded & {'fastapi', 'jinja2', 'recsys', 'torch', 'mlflow', 'great_expectations'}\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(PLUGINS)],
        env={"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path)},
        check=True,
        timeout=120,
    )
