"""A temporary warehouse filled with synthetic feedback in SQL, for benchmarks of the data path."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from recsys.local.postgres import PostgresServer, postgres_binary
from recsys.warehouse.engine import connect
from recsys.warehouse.migrate import upgrade_warehouse

PSEUDONYM_KEY = "a key that only benchmarks use"
ITEMS = 20_000
FIRST_TIME = datetime(2026, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(2026, 6, 30, 23, tzinfo=UTC)

_ITEMS = """
INSERT INTO items (item_id, title, description)
SELECT 'item-' || n, 'Title of item ' || n, 'What there is to say about item ' || n
FROM generate_series(1, :items) AS n
"""
_USERS = """
INSERT INTO users (user_id, consent)
SELECT 'user-' || n, n % 50 <> 0 FROM generate_series(1, :users) AS n
"""
# Some items and users are more frequent (product of two random numbers). One event in five has a value, one
# in twenty a comment. Rows are in time order, like a stream.
SELECT_EVENTS = """
SELECT
    'event-' || n AS event_id,
    'user-' || 1 + floor(:users * random() * random())::int AS user_id,
    'item-' || 1 + floor(:items * random() * random())::int AS item_id,
    (ARRAY['view', 'view', 'click', 'rating', 'like', 'dwell', 'purchase', 'view', 'click', 'view'])[
        1 + n % 10
    ] AS event_type,
    CASE n % 10 WHEN 3 THEN 1 + n / 10 % 5 WHEN 5 THEN n / 10 % 300 END AS value,
    CASE WHEN n % 20 = 3 THEN
        (ARRAY[
            'Kept me awake until three', 'Not what I had hoped for, but the end makes up for it',
            'Write to me at reader' || n || '@example.org for the whole story', 'Good', 'Slow; I gave up',
            'See https://example.org/review/' || n || ' for more, or call +44 20 7946 0958'
        ])[1 + n / 20 % 6]
    END AS comment,
    CAST(:first AS timestamptz)
        + (CAST(:last AS timestamptz) - :first) * ((n + 40 * random()) / (:rows + 40.0)) AS occurred_at
FROM generate_series(1, :rows) AS n
"""


@contextmanager
def made_warehouse(folder: Path | None) -> Iterator[tuple[PostgresServer, str, Path]]:
    """Yield a running Postgres, the URL of its empty warehouse, and a folder; delete all at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="recsys-benchmark-", dir=folder) as temporary,
        kept_warehouse(Path(temporary)) as made,
    ):
        yield made


@contextmanager
def kept_warehouse(root: Path) -> Iterator[tuple[PostgresServer, str, Path]]:
    """Yield the same in a folder that stays, with the content that an earlier call left."""
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    server = PostgresServer(root / "postgres", settings={"max_wal_size": "8GB"})
    server.start()
    try:
        server.create_database("warehouse")
        url = server.url("warehouse")
        upgrade_warehouse(url)
        yield server, url, root
    finally:
        server.stop()


def add_catalogue(url: str, users: int, items: int = ITEMS) -> None:
    """Add items and users; one user in fifty has not consented."""
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(sa.text(_ITEMS), {"items": items})
        connection.execute(sa.text(_USERS), {"users": users})
    engine.dispose()


def event_parameters(
    rows: int, users: int, until: datetime = LAST_TIME, items: int = ITEMS
) -> dict[str, Any]:
    """Return the parameters of `SELECT_EVENTS`."""
    return {
        "rows": rows,
        "users": users,
        "items": items,
        "first": FIRST_TIME.isoformat(),
        "last": until.isoformat(),
    }


def add_feedback(url: str, rows: int, users: int, until: datetime = LAST_TIME, items: int = ITEMS) -> None:
    """Add events of six months in one transaction, with all indexes, and vacuum."""
    engine = connect(url)
    parameters = event_parameters(rows, users, until, items)
    columns = "event_id, user_id, item_id, event_type, value, comment, occurred_at"
    with engine.begin() as connection:
        connection.execute(
            sa.text("SELECT ensure_feedback_partitions(CAST(:first AS timestamptz), :last)"), parameters
        )
        # Building an index afterwards is several times faster than updating it row by row.
        indexes = connection.execute(
            sa.text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'feedback'")
        ).all()
        connection.execute(sa.text("SET LOCAL maintenance_work_mem = '512MB'"))
        for index in indexes:
            connection.execute(sa.text(f"DROP INDEX {index.indexname}"))
        connection.execute(sa.text("SELECT setseed(0.5)"))
        connection.execute(sa.text(f"INSERT INTO feedback ({columns}) {SELECT_EVENTS}"), parameters)
        for index in indexes:
            connection.exec_driver_sql(index.indexdef.replace(" ON ONLY ", " ON "))
    vacuum(url)
    engine.dispose()


def vacuum(url: str) -> None:
    """Set hint bits and statistics, so that the first reader does not have to."""
    engine = connect(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
        connection.execute(sa.text("CHECKPOINT"))
    engine.dispose()


def run_psql(
    server: PostgresServer, command: str, source: Path | None = None, output: IO[bytes] | None = None
) -> float:
    """Run a command with psql and return its seconds; input and output default to the null device."""
    arguments = [str(postgres_binary("psql")), "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1"]
    arguments += ["--command", command, "--host", str(server.socket_dir)]
    arguments += ["--username", "postgres", "warehouse"]
    started = time.perf_counter()
    with (source or Path(os.devnull)).open("rb") as stdin:
        subprocess.run(arguments, stdin=stdin, stdout=output or subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def seconds_of(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def report(figures: Mapping[str, Any], file: Path | None) -> None:
    """Print figures as a table, and write them as JSON if a file is given."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:,.3f}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
