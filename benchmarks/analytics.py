"""Measure a refresh of the stored analytics views after an hour with 5,000 new events.

python -m benchmarks.analytics [--rows 200000,1000000,5000000] [--json FILE]

There are twelve slates of ten items for a hundred events, spread over half a year; three in ten are answered.
Every 20,000 events a model was promoted that has read them.
The hour has 1,000 new slates. Of its events, 900 answer these, 90 slates of the day before and 10 slates of
the last month. All figures are processor seconds of Postgres: other work on the machine hardly changes them.
The exponent is that of the growth from the first number of rows to the last.
"""

import argparse
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median

import psutil
import sqlalchemy as sa

from benchmarks.made_warehouse import (
    FIRST_TIME,
    LAST_TIME,
    add_catalogue,
    add_feedback,
    made_warehouse,
    report,
    vacuum,
)
from recsys.local.postgres import PostgresServer
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.engine import connect
from recsys.warehouse.feedback_counts import update_feedback_counts
from recsys.warehouse.slates_by_day import update_slates_by_day

_USERS_PER_ROW = 0.05
_SLATES_PER_ROW = 0.12

_SLATES = """
INSERT INTO impressions (impression_id, user_id, item_ids, propensities, rules, model_version, shown_at)
SELECT
    'slate-' || n,
    'user-' || 1 + floor(:users * random() * random())::int,
    ARRAY(SELECT 'item-' || 1 + floor(20000 * random() * random())::int + 0 * n FROM generate_series(1, 10)),
    array_fill(0.1::real, ARRAY[10]),
    CASE WHEN n % 10 = 0 THEN '{spring,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL}'::text[] END,
    (n * 6 / :slates)::text,
    CAST(:first AS timestamptz) + (CAST(:last AS timestamptz) - :first) * (n / CAST(:slates AS float))
FROM generate_series(1, :slates) AS n
"""
_ANSWERS = """
INSERT INTO feedback (event_id, user_id, item_id, event_type, impression_id, occurred_at)
SELECT
    'answer-' || impression_id, user_id, item_ids[1 + floor(10 * random())::int],
    (ARRAY['click', 'click', 'purchase'])[1 + floor(3 * random())::int], impression_id,
    shown_at + random() * interval '1 hour'
FROM impressions
WHERE right(impression_id, 1) IN ('1', '4', '7')
"""
# As if each row had been written by a transaction of its own when it happened.
_ARRIVALS = """
UPDATE feedback SET received_at = occurred_at + interval '1 second', transaction_id = numbered.id
FROM (SELECT feedback_id, row_number() OVER (ORDER BY occurred_at) AS id FROM feedback) AS numbered
WHERE feedback.feedback_id = numbered.feedback_id
"""
_PROMOTIONS = """
WITH opened AS (
    INSERT INTO windows (consumer, run_key, lower_transaction_id, upper_transaction_id, arrived, opened_at)
    SELECT 'hourly', 'run ' || id, id - 20000, id, 20000, CAST(:first AS timestamptz)
        + (CAST(:last AS timestamptz) - :first) * (id / CAST(:rows AS float))
    FROM generate_series(20000, :rows, 20000) AS id
    RETURNING run_key, upper_transaction_id / 20000 AS number, opened_at
),

published AS (
    INSERT INTO publications
        (run_key, model_version, scope, users, items, through_transaction_id, published_at)
    SELECT run_key, number::text, 'all', 1, 1, 0, opened_at + interval '9 minutes' FROM opened
)

INSERT INTO promotion_ledger (run_key, action, model_version, previous_champion, champion_sequence, reason,
    explanation, actor, decided_at)
SELECT
    run_key, 'promote', number, nullif(number - 1, 0), number, 'made', 'up', 'benchmark',
    opened_at + interval '5 minutes'
FROM opened
"""
_HOUR = """
INSERT INTO impressions (impression_id, user_id, item_ids, propensities, model_version, shown_at)
SELECT
    'new-' || :hour || '-' || n, 'user-' || 1 + floor(:users * random() * random())::int,
    ARRAY(SELECT 'item-' || 1 + floor(20000 * random() * random())::int + 0 * n FROM generate_series(1, 10)),
    array_fill(0.1::real, ARRAY[10]), '6', CAST(:last AS timestamptz) + random() * interval '30 minutes'
FROM generate_series(1, 1000) AS n;

INSERT INTO feedback (user_id, item_id, event_type, impression_id, occurred_at)
SELECT user_id, item_ids[1], 'click', impression_id, CAST(:last AS timestamptz) + interval '40 minutes'
FROM (
    (SELECT * FROM impressions WHERE impression_id LIKE 'new-' || :hour || '-%' LIMIT 900)
    UNION ALL
    (SELECT * FROM impressions
     WHERE shown_at BETWEEN CAST(:last AS timestamptz) - interval '1 day' AND :last
     ORDER BY random() LIMIT 90)
    UNION ALL
    (SELECT * FROM impressions
     WHERE shown_at BETWEEN CAST(:last AS timestamptz) - interval '30 days' AND :last
     ORDER BY random() LIMIT 10)
) AS answered;

INSERT INTO feedback (user_id, item_id, event_type, occurred_at)
SELECT
    'user-' || 1 + floor(:users * random() * random())::int,
    'item-' || 1 + floor(20000 * random() * random())::int, 'view', CAST(:last AS timestamptz)
FROM generate_series(1, 4000)
"""


def fill(url: str, rows: int) -> None:
    """Add users, items, feedback, slates and answers to them."""
    users = max(int(rows * _USERS_PER_ROW), 100)
    add_catalogue(url, users)
    add_feedback(url, rows, users)
    engine = connect(url)
    parameters = {
        "users": users,
        "slates": int(rows * _SLATES_PER_ROW),
        "first": FIRST_TIME,
        "last": LAST_TIME,
    }
    with engine.begin() as connection:
        connection.execute(
            sa.text("SELECT ensure_impressions_partitions(CAST(:first AS timestamptz), :last)"), parameters
        )
        connection.execute(sa.text(_SLATES), parameters)
        connection.execute(sa.text(_ANSWERS))
        connection.execute(sa.text(_ARRIVALS))
        connection.execute(sa.text(_PROMOTIONS), parameters | {"rows": rows})
        connection.execute(sa.text("SELECT warehouse_rebase_transaction_ids()"))
    engine.dispose()
    vacuum(url)


def processor_seconds(server: PostgresServer) -> float:
    """Processor seconds of all processes of a server since it started."""
    pid = int((server.data_dir / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    own = postmaster.cpu_times()
    spent = own.user + own.system + own.children_user + own.children_system
    for process in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:2])
    return spent


def measure(server: PostgresServer, url: str, rows: int, hours: int) -> dict[str, float]:
    """Return median processor seconds of the parts of a refresh, and of counts of everything."""
    engine = connect(url)
    install_analytics(engine)
    spent: dict[str, list[float]] = {}

    def note(part: str, action: Callable[[], object]) -> None:
        before = processor_seconds(server)
        action()
        spent.setdefault(part, []).append(processor_seconds(server) - before)

    def count(update: Callable[..., object], *, anew: bool = False) -> None:
        with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            update(connection, anew=anew)

    def refresh(view: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(f'REFRESH MATERIALIZED VIEW CONCURRENTLY analytics."{view}"')

    counts = {"slates_by_day": update_slates_by_day, "feedback_counts": update_feedback_counts}
    with engine.connect() as connection:
        views = connection.exec_driver_sql("SELECT matviewname FROM pg_matviews ORDER BY 1").scalars().all()
    for hour in range(hours):
        with engine.begin() as connection:
            parameters = {"hour": hour, "users": rows * _USERS_PER_ROW, "last": LAST_TIME}
            connection.execute(sa.text(_HOUR), parameters)
        for part, update in counts.items():
            note(part, partial(count, update))
        for view in views:
            note(view, partial(refresh, view))
    for part, update in counts.items():
        note(f"{part}_anew", partial(count, update, anew=True))
    engine.dispose()
    return {part: median(values) for part, values in spent.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", default="200000,1000000,5000000", help="events before the hour")
    parser.add_argument("--hours", type=int, default=3, help="repetitions")
    parser.add_argument("--folder", type=Path, help="where to make the warehouses; default: temporary files")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    sizes = [int(size) for size in options.rows.split(",")]
    found: dict[int, dict[str, float]] = {}
    for rows in sizes:
        with made_warehouse(options.folder) as (server, url, _):
            fill(url, rows)
            found[rows] = measure(server, url, rows, options.hours)
    figures: dict[str, float] = {f"{name}_{rows}": of[name] for rows, of in found.items() for name in of}
    if len(sizes) > 1:
        first, last = found[sizes[0]], found[sizes[-1]]
        for name in first:
            growth = max(last[name], 0.01) / max(first[name], 0.01)
            figures[f"{name}_exponent"] = math.log(growth) / math.log(sizes[-1] / sizes[0])
    report(figures, options.json)


if __name__ == "__main__":
    main()
