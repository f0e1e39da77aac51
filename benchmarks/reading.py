"""Compare `serving.recommend` with a bare look-up of the stored list by its primary key.

    python -m benchmarks.reading --users 20000 --items 20000 --json F

pgbench runs prepared statements over 8 connections: the look-up, the function for users who did nothing since
the publication, the same with a filter that half of the items match, and for users with 20 reactions since.
Every item has a list of 100 others that people had together with it, and nine of ten one of what is similar.
The scripts take turns for several rounds, and each round compares with the look-up of the same round, so that
what else the machine does changes both. Figures are medians over the rounds. On a busy machine a short call
ends before the machine turns to other work and a long one does not; the processor time of a call is fairer.

Keys: `p50_ratio`, `p99_ratio` (no reactions), `filter_p50_ratio`, `live_p50_ratio`, `live_p99_ratio`, `rate`
(calls a second without reactions), `lookup_rate`, `bytes_per_user` of the table, and, as ratios of processor
time on one connection, `cpu_ratio`, `filter_cpu_ratio`, `live_cpu_ratio`, `similar_cpu_ratio`
(`serving.similar_items` of an item with a list), `similar_scan_cpu_ratio` (of one without, which is compared
with all vectors) and `trending_cpu_ratio` (no reactions, and the model lets what is trending come in).
"""

import argparse
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import sqlalchemy as sa

from benchmarks.made_warehouse import made_warehouse, report, vacuum
from recsys.local.postgres import PostgresServer, postgres_binary
from recsys.serving.install import install_serving
from recsys.warehouse.engine import connect

_DIM = 64
_ACTIVE = 10
"""One user in so many has reacted since the publication."""
_REACTIONS = 20

_ITEMS = """
INSERT INTO items (item_id, title, attributes)
SELECT
    'item-' || n, 'Title of item ' || n, jsonb_build_object('genre', jsonb_build_array('genre-' || n % 8))
FROM generate_series(1, :items) AS n
"""
_USERS = """
INSERT INTO users (user_id, attributes)
SELECT 'user-' || n, jsonb_build_object('country', 'C' || n % 20) FROM generate_series(1, :users) AS n
"""
_VECTORS = """
INSERT INTO item_vectors (item_id, model_version, vector)
SELECT
    'item-' || n,
    '1',
    CAST(
        (
            SELECT array_agg(CAST(hashtext(n || '.' || j) AS real) / 2147483648)
            FROM generate_series(1, :dim) AS j
        ) AS vector
    )
FROM generate_series(1, :items) AS n
"""
_ITEM_LISTS = """
INSERT INTO item_lists (kind, item_id, item_ids, scores)
SELECT kind, 'item-' || n, list.ids, list.scores
FROM generate_series(1, :items) AS n
JOIN unnest(CAST('{together,similar}' AS text[])) AS kind ON kind = 'together' OR n % 10 > 0
CROSS JOIN LATERAL (
    SELECT
        array_agg(
            'item-' || 1 + (n * CAST(31 AS bigint) + i * CAST(15485863 AS bigint)) % :items ORDER BY i
        ) AS ids,
        array_agg(CAST(0.3 / (1 + i * 0.2) AS real) ORDER BY i) AS scores
    FROM generate_series(1, 100) AS i
) AS list
"""
_PUBLICATION = """
INSERT INTO publications (run_key, model_version, scope, users, items, through_transaction_id)
SELECT 'benchmark', '1', 'all', :users, :items, warehouse_horizon()
"""
# Neighbours in the ranking are far apart in the catalogue.
_LISTS = """
INSERT INTO recommendation_lists (
    user_id, publication_id, model_version, item_ids, scores, propensities, reasons, pool_item_ids,
    pool_scores, titles, through_transaction_id
)
SELECT
    'user-' || n,
    (SELECT max(publication_id) FROM publications),
    '1',
    trim_array(pool.ids, :pool - 20),
    trim_array(pool.scores, :pool - 20),
    array_fill(CAST(1 AS real), ARRAY[20]),
    (SELECT jsonb_agg('Because you liked "Title of item ' || i || '"') FROM generate_series(1, 20) AS i),
    pool.ids,
    pool.scores,
    trim_array(pool.titles, :pool - 20),
    (SELECT max(through_transaction_id) FROM publications)
FROM generate_series(1, :users) AS n
CROSS JOIN LATERAL (
    SELECT
        array_agg(
            'item-' || 1 + (n * CAST(7919 AS bigint) + i * CAST(104729 AS bigint)) % :items ORDER BY i
        ) AS ids,
        array_agg(
            'Title of item '
            || 1 + (n * CAST(7919 AS bigint) + i * CAST(104729 AS bigint)) % :items ORDER BY i
        ) AS titles,
        array_agg(CAST(5 - i * 0.01 AS real) ORDER BY i) AS scores
    FROM generate_series(1, :pool) AS i
) AS pool
"""
# Everybody has a past; then come the reactions that no publication has read.
_PAST = """
INSERT INTO feedback (user_id, item_id, event_type, occurred_at)
SELECT
    'user-' || 1 + n % :users, 'item-' || 1 + n * 31 % :items, 'view',
    now() - make_interval(days => CAST(40 + n % 600 AS integer))
FROM generate_series(1, CAST(:users AS bigint) * 10) AS n
"""
_SINCE = """
INSERT INTO feedback (user_id, item_id, event_type, occurred_at)
SELECT
    'user-' || m * :active, 'item-' || 1 + m * n * 31 % :items, 'view', now() - make_interval(secs => n)
FROM generate_series(1, CAST(:users / :active AS bigint)) AS m, generate_series(1, :reactions) AS n
"""

_TRENDING = """
INSERT INTO shared_lists (kind, attribute, segment, item_ids, scores)
SELECT
    'trending', '', '', array_agg('item-' || 1 + i * CAST(6700417 AS bigint) % :items ORDER BY i),
    array_agg(CAST(1.0 / i AS real) ORDER BY i)
FROM generate_series(1, 500) AS i
"""
_TRENDS_COME_IN = """
INSERT INTO model_versions (
    model_version, kind, base_transaction_id, trained_transaction_id, live_trending_before_reaction
)
VALUES ('1', 'full', 0, 0, 2)
"""

_ANY_USER = "'user-' || :n * 10 + 1"
_SCRIPTS = {
    "lookup": "SELECT item_ids, scores, reasons, propensities, model_version FROM recommendation_lists"
    f" WHERE user_id = {_ANY_USER};",
    "plain": f"SELECT * FROM serving.recommend({_ANY_USER});",
    "filter": f"SELECT * FROM serving.recommend({_ANY_USER},"
    ' filter => \'{"genre": ["genre-0", "genre-1", "genre-2", "genre-3"]}\');',
    "live": "SELECT * FROM serving.recommend('user-' || :n * 10);",
}
_ABOUT_ITEMS = {
    "similar": "SELECT * FROM serving.similar_items('item-' || :n * 10 - 9);",
    "similar_scan": "SELECT * FROM serving.similar_items('item-' || :n * 10);",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading")
    parser.add_argument("--users", type=int, default=20_000, help="number of users with a list")
    parser.add_argument("--items", type=int, default=20_000, help="number of items")
    parser.add_argument("--pool", type=int, default=200, help="items in the pool of a user, at least 20")
    parser.add_argument("--connections", type=int, default=8, help="number of connections")
    parser.add_argument("--seconds", type=int, default=5, help="duration of a script in a round")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    options = parser.parse_args(arguments)
    with made_warehouse(options.folder) as (server, url, root):
        size = fill(url, options.users, options.items, options.pool)
        for name, statement in _SCRIPTS.items():
            last = options.users // _ACTIVE - 1
            (root / f"{name}.sql").write_text(f"\\set n random(1, {last})\n{statement}\n", encoding="utf-8")
        rounds = [
            {name: _run(server, root, name, options.connections, options.seconds) for name in _SCRIPTS}
            for _ in range(1 + options.rounds)
        ][1:]  # the first round reads the tables into memory
        of_users = dict.fromkeys(_SCRIPTS, last)
        last_of = of_users | dict.fromkeys(_ABOUT_ITEMS, options.items // _ACTIVE)
        used = [
            {name: _processor_time(url, name, last) for name, last in last_of.items()}
            for _ in range(options.rounds)
        ]
        execute(url, _TRENDS_COME_IN)
        for each in used:
            each["trending"] = _processor_time(url, "plain", last)
    figures = _figures(rounds, options.seconds) | {"bytes_per_user": size}
    for name in set(used[0]) - {"lookup"}:
        key = "cpu_ratio" if name == "plain" else f"{name}_cpu_ratio"
        figures[key] = round(median(each[name] / each["lookup"] for each in used), 1)
    report(figures, options.json)


def fill(url: str, users: int, items: int, pool: int = 200) -> float:
    """Fill the warehouse; return the bytes that the list and pool of a user take."""
    engine = connect(url)
    parameters = {
        "users": users, "items": items, "pool": pool, "dim": _DIM,
        "active": _ACTIVE, "reactions": _REACTIONS,
    }  # fmt: skip
    install_serving(engine)
    for statement in (
        "SELECT ensure_feedback_partitions(now() - interval '22 months', now() + interval '3 months')",
        _ITEMS, _USERS, _VECTORS, _ITEM_LISTS, _TRENDING, _PAST, _PUBLICATION, _LISTS, _SINCE,
    ):  # fmt: skip
        with engine.begin() as connection:
            connection.execute(sa.text(statement), parameters)
    vacuum(url)
    with engine.connect() as connection:
        size = connection.scalar(sa.text("SELECT pg_table_size('recommendation_lists')"))
    engine.dispose()
    return round(float(size or 0) / users, 1)


def execute(url: str, statement: str) -> None:
    """Run a statement in a transaction."""
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def _run(server: PostgresServer, root: Path, name: str, connections: int, seconds: int) -> np.ndarray:
    """Return the latencies of a script's calls, in microseconds."""
    logs = root / f"log-{name}"
    subprocess.run(
        [
            str(postgres_binary("pgbench")), "--no-vacuum", "--protocol", "prepared",
            "--client", str(connections), "--jobs", str(min(2, connections)), "--time", str(seconds), "--log",
            "--log-prefix", str(logs), "--file", str(root / f"{name}.sql"),
            "--host", str(server.socket_dir), "--username", "postgres", "warehouse",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    files = sorted(root.glob(f"{logs.name}.*"))
    latencies = np.concatenate([np.loadtxt(file, usecols=2, ndmin=1) for file in files])
    for file in files:
        file.unlink()
    return latencies


def _processor_time(url: str, name: str, last: int) -> float:
    """Return the processor time of the server's process for a call, in seconds."""
    engine = connect(url)
    calls = {"live": 500, "similar_scan": 100}.get(name, 3000)
    with engine.connect() as connection:
        process = Path(f"/proc/{connection.scalar(sa.text('SELECT pg_backend_pid()'))}/stat")

        def used() -> float:
            user, system = process.read_text().rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

        cursor = connection.connection.cursor()
        script = (_SCRIPTS | _ABOUT_ITEMS)[name].replace(":n", "$1").rstrip(";")
        cursor.execute(f"PREPARE call (integer) AS {script}")
        for number in range(-20, calls):  # the first ones make the plans
            if number == 0:
                before = used()
            cursor.execute(f"EXECUTE call ({1 + number * 7 % last})")
        seconds = used() - before
    engine.dispose()
    return seconds / calls


def _figures(rounds: Sequence[Mapping[str, np.ndarray]], seconds: int) -> dict[str, float]:
    def ratio(name: str, percentile: float) -> float:
        return round(
            median(
                float(np.percentile(each[name], percentile) / np.percentile(each["lookup"], percentile))
                for each in rounds
            ),
            2,
        )

    return {
        "p50_ratio": ratio("plain", 50),
        "p99_ratio": ratio("plain", 99),
        "filter_p50_ratio": ratio("filter", 50),
        "live_p50_ratio": ratio("live", 50),
        "live_p99_ratio": ratio("live", 99),
        "rate": round(median(len(each["plain"]) / seconds for each in rounds)),
        "lookup_rate": round(median(len(each["lookup"]) / seconds for each in rounds)),
    }


if __name__ == "__main__":
    main()
