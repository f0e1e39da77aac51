"""Data Docs behind Airflow's authentication: only a window's own pages are served."""

from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from recsys.airflow.links import DataDocsLink

RESULTS = "validations/row-rules/window-1/20260101T000000Z/warehouse-violations.html"


@pytest.fixture
def docs(warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A validated window, its Data Docs, and a secret file next to them."""
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path / "home"))
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived)"
            " VALUES ('nightly_training', 'nightly_training/scheduled__2026-01-01T03:00:00+00:00', 0, 10, 7)"
        )
        connection.exec_driver_sql(
            "INSERT INTO validation_results"
            " (window_id, expectation, success, severity, observed, expected) VALUES"
            " (1, 'volume', false, 'critical', '{\"ratio\": 0.01}', '{\"fail_min\": 0.1}'),"
            " (1, '<b>rule</b>', true, 'warning', '{\"unexpected_rows\": 0}', '{\"unexpected_rows\": 0}')"
        )
    site = tmp_path / "home" / "data_docs" / "window-1"
    (site / RESULTS).parent.mkdir(parents=True)
    (site / RESULTS).write_text("<html><head><script src='https://cdn'></script></head>Violations</html>")
    (site / "expectations").mkdir()
    (site / "expectations" / "row-rules.html").write_text("<html><head></head>Rules</html>")
    (site / "index.html").write_text("<html>needs scripts</html>")
    (site / "notes.txt").write_text("not a page")
    (site.parent / "window-2").mkdir()
    (site.parent / "window-2" / "other.html").write_text("another window")
    (tmp_path / "home" / "secret.html").write_text("secret")
    (site / "link.html").symlink_to(tmp_path / "home" / "secret.html")
    return site


@pytest.mark.parametrize("path", ["?run=x", "/1/", "/1/index.html", f"/1/{RESULTS}"])
def test_without_a_session_nothing_is_shown(client: Any, docs: Path, path: str) -> None:
    answer = client.get(f"/recommender/data-docs{path}")
    assert answer.status_code == 401
    assert "Violations" not in answer.text


def test_the_button_of_a_task_links_to_the_docs_of_its_run(
    signed_in: Any, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Key:
        dag_id, run_id = "nightly_training", "scheduled__2026-01-01T03:00:00+00:00"

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/prefix/")
    link = DataDocsLink().get_link(None, ti_key=Key())
    assert link.startswith("https://airflow.example/prefix/recommender/data-docs?")
    assert parse_qs(urlsplit(link).query)["run"] == ["nightly_training/scheduled__2026-01-01T03:00:00+00:00"]
    answer = signed_in.get(f"/recommender/data-docs?{urlsplit(link).query}", follow_redirects=True)
    assert answer.status_code == 200
    assert answer.url.path == "/recommender/data-docs/1/"
    for shown in ("Window 1 of nightly_training", "volume", "failed", "ratio 0.01", "results: row rules"):
        assert shown in answer.text, shown
    assert "<b>rule</b>" not in answer.text
    assert f'href="{RESULTS}"' in answer.text


def test_a_page_has_our_style_and_no_scripts(signed_in: Any, docs: Path) -> None:
    answer = signed_in.get(f"/recommender/data-docs/1/{RESULTS}")
    assert answer.status_code == 200
    assert "Violations" in answer.text
    assert "<style>" in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "../window-2/other.html",
        "..%2Fwindow-2%2Fother.html",
        "..%2F..%2Fsecret.html",
        "%2e%2e/%2e%2e/secret.html",
        "expectations/..%2f..%2f..%2fsecret.html",
        "link.html",
        "notes.txt",
        "expectations",
        "%00.html",
        "no-such-page.html",
        "//etc/passwd",
    ],
)
def test_nothing_but_the_pages_of_the_window_is_served(signed_in: Any, docs: Path, path: str) -> None:
    answer = signed_in.get(f"/recommender/data-docs/1/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text
    assert "another window" not in answer.text


@pytest.mark.parametrize("window", ["-1", "x", "1%2F..", "99"])
def test_an_unknown_window_is_not_found(signed_in: Any, docs: Path, window: str) -> None:
    assert signed_in.get(f"/recommender/data-docs/{window}/").status_code == 404


def test_a_run_without_a_window_and_a_window_without_pages_say_so(
    signed_in: Any, docs: Path, plugin: ModuleType
) -> None:
    unknown = signed_in.get("/recommender/data-docs", params={"run": "<i>nobody</i>"})
    assert unknown.status_code == 404
    assert "&lt;i&gt;nobody&lt;/i&gt; opened no window" in unknown.text
    for page in docs.rglob("*.html"):
        page.unlink()
    assert "past their retention" in signed_in.get("/recommender/data-docs/1/").text
