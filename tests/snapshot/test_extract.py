import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError, ServiceUnavailableError, WarehouseError
from recsys.snapshot import copy_csv, copy_stream
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
        return list(source.fixed_width_batches(statement, SCHEMA, rows, **parameters))


@pytest.mark.parametrize("rows", [0, 1, 999, 1_000, 50_001])
def test_fixed_width_batches_have_the_values_of_postgres_and_the_requested_size(
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
        ("1::bigint, NULL::double precision, now()", "width of value is -1 instead of 8"),
        ("1::int, 2::double precision, now()", "width of number is 4 instead of 8"),
        ("1::bigint, 'some text', now()", "width of value is 9 instead of 8"),
        ("1::bigint, 2::double precision", "fields is 2 instead of 3"),
    ],
)
def test_a_row_of_another_width_is_refused_by_its_column(
    warehouse: sa.Engine, values: str, what: str
) -> None:
    with pytest.raises(WarehouseError, match=what):
        read(warehouse, f"SELECT {values} FROM generate_series(1, 40)", 7)


def test_all_statements_see_the_moment_when_the_extraction_was_opened(warehouse: sa.Engine) -> None:
    count = "SELECT count(*) AS number, 0::double precision AS value, now() AS moment FROM items"
    with extraction(warehouse) as source:
        with warehouse.begin() as writer:
            writer.execute(sa.text("INSERT INTO items (item_id, title) VALUES ('late', 'Late')"))
        [batch] = source.fixed_width_batches(count, SCHEMA, 10)
        table = source.table(count, SCHEMA)
    assert batch.column("number").to_pylist() == table.column("number").to_pylist() == [0]


def test_a_connection_that_breaks_is_an_error_a_retry_can_fix(warehouse: sa.Engine) -> None:
    with extraction(warehouse) as source:
        batches = source.fixed_width_batches(NUMBERS, SCHEMA, 1_000, count=50_000_000)
        next(batches)
        with warehouse.connect() as other:
            assert other.scalars(sa.text(f"SELECT pg_terminate_backend(pid) {COPYING}")).all() == [True]
        with pytest.raises(ServiceUnavailableError, match="broke off"):
            list(batches)


def test_closing_early_leaves_no_connection_and_no_thread(warehouse: sa.Engine) -> None:
    threads = threading.active_count()
    with extraction(warehouse) as source:
        batches = source.fixed_width_batches(NUMBERS, SCHEMA, 1_000, count=50_000_000)
        next(batches)
        batches.close()
    assert threading.active_count() == threads
    with warehouse.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        # The backend ends when it notices that nobody reads. The test's time limit bounds the wait.
        while other.scalar(sa.text(f"SELECT count(*) {COPYING}")):
            pass


TEXTS = pa.schema(
    [
        ("number", pa.int16()),
        ("text", pa.string()),
        ("flag", pa.bool_()),
        ("value", pa.float64()),
        ("weight", pa.float32()),
        ("moment", pa.timestamp("us", tz="UTC")),
    ]
)
TEXT_ROWS = [
    [1, "", True, 0.1 + 0.2, 0.1, "2026-01-02 03:04:05.678901+00"],
    [2, None, False, float("inf"), None, "0001-01-01 00:00:00+00"],
    [None, 'two\nlines, a "quote"\r\n', None, float("-inf"), 1e-30, "9999-12-31 23:59:59.999999+00"],
    [-3, "NULL", None, None, 1.0, None],
    [4, "\\.", None, 5e-324, 16777216.0, "1969-12-31 23:59:59.999999+00"],
    [5, "三体 👍" * 1_000, None, 1.7976931348623157e308, 3.4028234663852886e38, None],
]


@pytest.mark.parametrize("block_bytes", [1, 10_000, 1 << 21])
def test_text_batches_have_the_values_of_postgres(
    warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(copy_stream, "_CHUNK_BYTES", block_bytes)
    monkeypatch.setattr(copy_csv, "_BLOCK_BYTES", block_bytes)
    with warehouse.begin() as connection:
        connection.execute(sa.text(f"ALTER DATABASE \"{warehouse.url.database}\" SET datestyle TO 'German'"))
        connection.execute(
            sa.text("CREATE TABLE texts (weight real, n int, number smallint, flag bool, text text, "
                    "value double precision, moment timestamptz)")
        )  # fmt: skip
        for n, row in enumerate(TEXT_ROWS):
            connection.execute(
                sa.text("INSERT INTO texts VALUES (:weight, :n, :number, :flag, :text, :value, :moment)"),
                dict(zip(TEXTS.names, row, strict=True)) | {"n": n},
            )
    with extraction(warehouse) as source:
        table = source.table("SELECT * FROM texts ORDER BY n", TEXTS)
        assert source.table("SELECT * FROM texts WHERE n < 0", TEXTS).num_rows == 0
    found = [[row[name] for name in TEXTS.names] for row in table.to_pylist()]
    assert [row[:-1] for row in found] == [
        [*row[:4], None if row[4] is None else float(np.float32(row[4]))] for row in TEXT_ROWS
    ]
    assert [row[-1] for row in found] == [row[-1] and datetime.fromisoformat(row[-1]) for row in TEXT_ROWS]


def test_a_column_that_the_statement_lacks_is_an_error(warehouse: sa.Engine) -> None:
    with extraction(warehouse) as source, pytest.raises(KeyError, match="number"):
        source.table("SELECT 1 AS other", pa.schema([("number", pa.int64())]))


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
def test_asyncpg_gets_the_same_connection_from_a_url_as_psycopg2(
    url: str, expected: dict[str, object]
) -> None:
    defaults = {"timeout": 10.0, "dsn": "postgresql://?", "server_settings": {}}
    assert asyncpg_arguments(sa.make_url(url)) == {**defaults, **expected}


def test_an_option_that_asyncpg_does_not_support_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="channel_binding"):
        asyncpg_arguments(sa.make_url("postgresql+psycopg2://ann@db/shop?channel_binding=require"))
