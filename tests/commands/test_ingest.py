import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from recsys.commands.main import app

HEADER = "user_id,item_id,event_type,occurred_at\n"
GOOD = "u1,i1,view,2026-01-31T18:30:00Z\n"
BAD = "u1,i1,view,noon\n"


@pytest.fixture(autouse=True)
def environment(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", warehouse_url)
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(
    ("lines", "code"), [(GOOD, 0), (GOOD + BAD, 1), (BAD, 2), ("", 0)], ids=["good", "mixed", "bad", "empty"]
)
def test_the_exit_code_says_whether_all_some_or_no_lines_were_loaded(
    tmp_path: Path, lines: str, code: int
) -> None:
    path = tmp_path / "feedback.csv"
    path.write_text(HEADER + lines)
    result = CliRunner().invoke(app, ["ingest", "feedback", str(path)])
    assert result.exit_code == code, result.output
    assert ["inserted", str(lines.count(GOOD))] in [line.split() for line in result.output.splitlines()]
    if BAD in lines:
        assert "feedback.csv.rejected.jsonl" in result.output


def test_the_summary_shows_new_users_and_their_consent(tmp_path: Path) -> None:
    path = tmp_path / "feedback.csv"
    path.write_text(HEADER + GOOD)
    result = CliRunner().invoke(app, ["ingest", "feedback", str(path), "--no-consent"])
    assert "1  registered without consent to training" in result.output


def test_the_summary_says_that_ids_were_changed_and_shows_none_of_a_person(tmp_path: Path) -> None:
    path = tmp_path / "feedback.csv"
    path.write_text(HEADER + GOOD.replace("u1", " zq7f "))
    result = CliRunner().invoke(app, ["ingest", "feedback", str(path)])
    assert ["changed", "ids", "1"] in [line.split()[:3] for line in result.output.splitlines()]
    assert "zq7f" not in result.output


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("items", "item_id,title\ni1,三体\n"),
        ("users", "user_id,consent\nu1,yes\n"),
        ("impressions", 'impression_id,user_id,item_ids,shown_at\nm1,u1,"[""i1""]",0\n'),
    ],
)
def test_every_table_has_a_command(tmp_path: Path, warehouse: sa.Engine, table: str, content: str) -> None:
    path = tmp_path / f"{table}.csv"
    path.write_text(content)
    assert CliRunner().invoke(app, ["ingest", table, str(path)]).exit_code == 0
    with warehouse.connect() as connection:
        assert connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 1


def test_the_installed_command_prints_one_plain_message_and_exits_with_2(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("recsys")
    finished = subprocess.run(
        [command, "ingest", "feedback", str(tmp_path / "nowhere.csv")],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert finished.returncode == 2
    assert "nowhere.csv is not a file" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_file_of_rejected_lines_is_private(tmp_path: Path) -> None:
    path = tmp_path / "feedback.csv"
    path.write_text(HEADER + BAD)
    command = Path(sys.executable).with_name("recsys")
    subprocess.run(
        [command, "ingest", "feedback", str(path)], capture_output=True, env=os.environ, check=False
    )
    assert (tmp_path / "feedback.csv.rejected.jsonl").stat().st_mode & 0o077 == 0
