import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, ServiceUnavailableError, WarehouseError
from recsys.snapshot.extract import extraction
from recsys.warehouse.engine import asyncpg_arguments

SCHEMA = pa.schema(
    [("number", pa.int64()), ("value", pa.float64()), ("moment", pa.timestamp("us", tz="UTC"))]
)
NUMBERS = """
SELECT
    n * bigint '1000000007' AS number,
    CASE WHEN n % 3 = 0 THEN 'NaN' ELSE n / 8.0 END::double precision AS value,
    timestamptz '1999-12-31 23:59:59.999999+00' + n * interval '1 microsecond' AS moment
FROM generate_series(1, :count) AS n
"""


COPYING = "FROM pg_stat_activity WHERE query LIKE 'COPY%generate_series%' AND pid <> pg_backend_pid()"


def read(engine: sa.Engine, statement: str, rows: int, **parameters: object) -> list[pa.RecordBatch]:
    with extraction(engine) as source:
        return list(source.records(statement, SCHEMA, rows, **parameters))


@pytest.mark.parametrize("rows", [0, 1, 999, 1_000, 50_001])
def test_records_come_as_they_are_in_postgres_in_batches_of_the_size_asked_for(
    warehouse: sa.Engine, rows: int
) -> None:
    batches = read(warehouse, NUMBERS, 1_000, count=rows)
    assert [batch.num_rows for batch in batches] == [1_000] * (rows // 1_000) + [rows % 1_000] * (
        rows % 1_000 > 0
    )
    n = np.arange(1, rows + 1)
    table = pa.Table.from_batches(batches, SCHEMA)
    assert table.column("number").to_pylist() == (n * 1_000_000_007).tolist()
    assert table.column("value").to_pylist() == [None if k % 3 == 0 else k / 8 for k in n.tolist()]
    start = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert table.column("moment").to_pylist() == [start + timedelta(microseconds=k) for k in n.tolist()]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ("1::bigint, NULL::double precision, now()", "width of value is -1 where it has to be 8"),
        ("1::int, 2::double precision, now()", "width of number is 4 where it has to be 8"),
        ("1::bigint, 'some text', now()", "width of value is 9 where it has to be 8"),
        ("1::bigint, 2::double precision", "fields is 2 where it has to be 3"),
    ],
)
def test_a_row_of_another_width_is_refused_with_its_column(
    warehouse: sa.Engine, values: str, what: str
) -> None:
    with pytest.raises(WarehouseError, match=what):
        read(warehouse, f"SELECT {values} FROM generate_series(1, 40)", 7)


def test_records_show_the_moment_of_the_extraction(warehouse: sa.Engine) -> None:
    count = "SELECT count(*) AS number, 0::double precision AS value, now() AS moment FROM items"
    with extraction(warehouse) as source:
        source.table("SELECT 1 AS one")
        with warehouse.begin() as writer:
            writer.execute(sa.text("INSERT INTO items (item_id, title) VALUES ('late', 'Late')"))
        [batch] = source.records(count, SCHEMA, 10)
    assert batch.column("number").to_pylist() == [0]


def test_a_connection_that_is_ended_in_the_middle_can_be_tried_again(warehouse: sa.Engine) -> None:
    with extraction(warehouse) as source:
        batches = source.records(NUMBERS, SCHEMA, 1_000, count=50_000_000)
        next(batches)
        with warehouse.connect() as other:
            assert other.scalars(sa.text(f"SELECT pg_terminate_backend(pid) {COPYING}")).all() == [True]
        with pytest.raises(ServiceUnavailableError, match="broke off"):
            list(batches)


def test_closed_early_it_leaves_no_connection_and_no_thread_behind(warehouse: sa.Engine) -> None:
    threads = threading.active_count()
    with extraction(warehouse) as source:
        batches = source.records(NUMBERS, SCHEMA, 1_000, count=50_000_000)
        next(batches)
        batches.close()
    assert threading.active_count() == threads
    with warehouse.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        # The backend ends once it notices that nobody listens; the time limit of tests is the bound.
        while other.scalar(sa.text(f"SELECT count(*) {COPYING}")):
            pass


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql+psycopg2://ann:p%40%3Ass@db.example.org:6543/shop?sslmode=require",
            {
                "host": "db.example.org",
                "port": 6543,
                "user": "ann",
                "password": "p@:ss",
                "database": "shop",
                "dsn": "postgresql://?sslmode=require",
            },
        ),
        (
            "postgresql+psycopg2://ann@localhost/shop?host=/run/my%20sockets&connect_timeout=3",
            {"host": "/run/my sockets", "user": "ann", "database": "shop", "timeout": 3.0},
        ),
        (
            "postgresql+psycopg2://ann@/shop?host=one:5433&host=two:5434&target_session_attrs=read-write",
            {
                "host": ["one", "two"],
                "port": [5433, 5434],
                "user": "ann",
                "database": "shop",
                "dsn": "postgresql://?target_session_attrs=read-write",
            },
        ),
        (
            "postgresql+psycopg2:///?service=shop&application_name=recsys&keepalives_idle=30",
            {"dsn": "postgresql://?service=shop", "server_settings": {"application_name": "recsys"}},
        ),
    ],
)
def test_a_url_means_the_same_to_asyncpg_as_to_psycopg2(url: str, expected: dict[str, object]) -> None:
    defaults = {"timeout": 10.0, "dsn": "postgresql://?", "server_settings": {}}
    assert asyncpg_arguments(sa.make_url(url)) == {**defaults, **expected}


def test_an_option_that_asyncpg_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="channel_binding"):
        asyncpg_arguments(sa.make_url("postgresql+psycopg2://ann@db/shop?channel_binding=require"))
