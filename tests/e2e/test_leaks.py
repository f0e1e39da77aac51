"""Nothing that a whole run leaves names a person, repeats a comment or shows a secret."""

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.local.home import StackHome
from tests.e2e.leaks import COMMENT, MAY_HOLD, PERSON, Leak, databases, files, find_leaks
from tests.e2e.stack import WEBHOOK, Stack

pytestmark = pytest.mark.usefixtures("failures", "rolled_back")


@pytest.fixture(scope="module")
def words(stack: Stack) -> dict[str, list[str]]:
    """What went in, by kind."""
    generated = StackHome(stack.home).secrets().model_dump()
    names = ("stack_id", "airflow_user", "mlflow_user")
    hidden = [value for name, value in generated.items() if name not in names]
    password = sa.make_url(stack.settings.require_warehouse_url()).password
    assert all(len(value) >= 12 for value in hidden)
    return {
        "person": [PERSON],
        "comment": [COMMENT],
        "secret": [WEBHOOK.rpartition("/")[2], *hidden, *([password] if password else [])],
    }


def _server(stack: Stack) -> str:
    """Return the URL of the stack's Postgres in libpq's form, to be completed with a database."""
    url = sa.make_url(stack.settings.require_warehouse_url()).set(
        drivername="postgresql", database="DATABASE"
    )
    return url.render_as_string(hide_password=False).replace("DATABASE", "{database}")


def test_the_loop_has_seen_ids_and_comments(stack: Stack) -> None:
    (counted,) = stack.read(
        "SELECT (SELECT count(DISTINCT user_id) FROM recommendation_lists) AS users,"
        " (SELECT count(*) FROM feedback WHERE comment IS NOT NULL) AS comments"
    )
    assert counted["users"] >= 60
    assert counted["comments"] >= 60
    held = [
        (name, leak.kind)
        for name, content in files(stack.home)
        for leak in find_leaks([("", content)], {"person": [PERSON], "comment": [COMMENT]})
    ]
    snapshots = {kind for name, kind in held if name.startswith("snapshots/")}
    assert snapshots == {"comment"}


def test_no_file_names_a_person_repeats_a_comment_or_shows_a_secret(
    stack: Stack, words: dict[str, list[str]]
) -> None:
    assert find_leaks(files(stack.home), words) == []


def test_no_database_names_a_person_repeats_a_comment_or_shows_a_secret(
    stack: Stack, words: dict[str, list[str]]
) -> None:
    assert find_leaks(databases(_server(stack)), words) == []


def test_no_command_prints_a_person_a_comment_or_a_secret(stack: Stack, words: dict[str, list[str]]) -> None:
    # `recsys up` shows the passwords of the two UIs to the person who starts them.
    shown = {
        StackHome(stack.home).secrets().airflow_password,
        StackHome(stack.home).secrets().mlflow_password,
    }
    hidden = {**words, "secret": [word for word in words["secret"] if word not in shown]}
    assert find_leaks([("output", text.encode()) for text in stack.printed], hidden) == []


def test_no_command_line_shows_a_secret(stack: Stack, words: dict[str, list[str]]) -> None:
    commands = stack.processes()
    assert len(commands) > 5
    assert find_leaks([("command line", command.encode()) for command in commands], words) == []


def test_files_that_may_hold_them_are_closed_to_others(stack: Stack) -> None:
    for path in MAY_HOLD:
        for found in stack.home.glob(path):
            parents = [found, *(p for p in found.parents if p.is_relative_to(stack.home) and p != stack.home)]
            assert any(one.stat().st_mode & 0o077 == 0 for one in parents), found


def _plant_file(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda home: (home / name).write_bytes(content) and None


def _plant_parquet(home: Path) -> None:
    table = pa.table({"user": [f"{PERSON}-u001"] * 9})
    pq.write_table(table, home / "snapshots" / "planted.parquet", compression="zstd")


def _plant_arrays(home: Path) -> None:
    np.savez_compressed(home / "mlflow" / "planted.npz", users=np.frombuffer(f"{PERSON}-u001".encode(), "u1"))


def _plant_zip(home: Path) -> None:
    with zipfile.ZipFile(home / "planted.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.gz", gzip.compress(f"said {COMMENT}".encode()))


PLANTED = {
    "logs/planted.log": _plant_file("logs/planted.log", f"ERROR: ({PERSON}-u001)".upper().encode()),
    "airflow/logs/planted.log": _plant_file("airflow/logs/planted.log", json.dumps({"c": COMMENT}).encode()),
    "snapshots/planted.parquet": _plant_parquet,
    "mlflow/planted.npz": _plant_arrays,
    "planted.zip": _plant_zip,
}


@pytest.mark.parametrize("place", PLANTED)
def test_a_planted_leak_in_a_file_is_found(stack: Stack, words: dict[str, list[str]], place: str) -> None:
    PLANTED[place](stack.home)
    try:
        (leak,) = find_leaks(files(stack.home), words)
    finally:
        (stack.home / place).unlink()
    assert leak.place.startswith(place)


@pytest.mark.parametrize("kind", ["person", "comment", "secret"])
@pytest.mark.parametrize("database", ["airflow", "mlflow", "recsys"])
def test_a_planted_leak_in_a_database_is_found(
    stack: Stack, words: dict[str, list[str]], database: str, kind: str
) -> None:
    session = psycopg2.connect(_server(stack).format(database=database))
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE planted AS SELECT json_build_object('in', %s) AS xcom", (words[kind][0],)
        )
        try:
            (leak,) = find_leaks(databases(_server(stack)), words)
        finally:
            cursor.execute("DROP TABLE planted")
    session.close()
    assert isinstance(leak, Leak)
    assert (leak.kind, leak.place) == (kind, f"database {database}")
