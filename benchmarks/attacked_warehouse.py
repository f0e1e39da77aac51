"""A warehouse in which ratings arrive night by night and are validated, copied for each attack."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from benchmarks.attacks import DAY, Ratings
from recsys.local.postgres import PostgresServer
from recsys.settings import ValidationSettings
from recsys.validation.quarantine import quarantine_window
from recsys.validation.rules import row_rules
from recsys.warehouse.engine import connect
from recsys.warehouse.migrate import upgrade_warehouse
from recsys.warehouse.windows import open_window

_MOST_ACCOUNTS = 1_000
_PEOPLE = "INSERT INTO users (user_id) SELECT n::text FROM generate_series(0, :last) AS n"
_ITEMS = "INSERT INTO items (item_id, title) SELECT n::text, n::text FROM generate_series(0, :last) AS n"
_RATINGS = """
INSERT INTO feedback (event_id, user_id, item_id, event_type, value, occurred_at)
SELECT number || '-' || item, number::text, item::text, 'rating', value, to_timestamp(time)
FROM unnest(
    CAST(:users AS bigint[]), CAST(:items AS bigint[]), CAST(:values AS float8[]), CAST(:times AS float8[])
) WITH ORDINALITY AS given (number, item, value, time, place)
ORDER BY place
"""


class AttackedWarehouse:
    """Postgres databases with the honest ratings from before a moment, validated in one window.

    Parameters
    ----------
    honest
        All honest ratings.
    begin
        The moment, Unix seconds.
    """

    def __init__(self, server: PostgresServer, honest: Ratings, items: int, begin: float) -> None:
        self._server = server
        self._begin = begin
        self._names = (f"attack_{number}" for number in itertools.count())
        self._template = "before_the_attacks"
        self._runs = itertools.count()
        server.create_database(self._template)
        upgrade_warehouse(server.url(self._template))
        with self._engine(self._template) as engine:
            with engine.begin() as connection:
                connection.execute(
                    sa.text("SELECT ensure_feedback_partitions(to_timestamp(:first), to_timestamp(:last))"),
                    {"first": float(honest.time.min()), "last": float(honest.time.max())},
                )
                connection.execute(sa.text(_ITEMS), {"last": items - 1})
                connection.execute(sa.text(_PEOPLE), {"last": int(honest.user.max()) + _MOST_ACCOUNTS})
            self._arrive(engine, honest.take(honest.time < begin))

    def quarantined(self, ratings: Ratings, busy_until: float) -> NDArray[np.bool_]:
        """Let the ratings since the moment arrive; return which are in quarantine at the end.

        Each night is a window, up to `busy_until` (Unix seconds). What is left arrives in one window.
        """
        name = next(self._names)
        self._server.create_database(name, template=self._template)
        night = np.minimum(np.floor(ratings.time / DAY), np.floor(busy_until / DAY) + 1)
        with self._engine(name) as engine:
            for tonight in np.unique(night[ratings.time >= self._begin]):
                self._arrive(engine, ratings.take((ratings.time >= self._begin) & (night == tonight)))
            with engine.connect() as connection:
                keys = set(connection.scalars(sa.text("SELECT feedback ->> 'event_id' FROM quarantine")))
        with self._engine("postgres") as engine, _autocommitting(engine) as connection:
            connection.execute(sa.text(f"DROP DATABASE {name}"))
        pairs = zip(ratings.user.tolist(), ratings.item.tolist(), strict=True)
        return np.array([f"{user}-{item}" in keys for user, item in pairs])

    def _arrive(self, engine: sa.Engine, ratings: Ratings) -> None:
        parameters = {
            "users": ratings.user.tolist(),
            "items": ratings.item.tolist(),
            "values": ratings.value.tolist(),
            "times": ratings.time.tolist(),
        }
        with engine.begin() as connection:
            connection.execute(sa.text(_RATINGS), parameters)
        with _autocommitting(engine) as connection:
            connection.execute(sa.text("ANALYZE feedback"))
        window = open_window(engine, "nightly", f"run {next(self._runs)}")
        with engine.begin() as connection:
            quarantine_window(connection, window, row_rules(), ValidationSettings())

    @contextmanager
    def _engine(self, name: str) -> Iterator[sa.Engine]:
        engine = connect(self._server.url(name))
        try:
            yield engine
        finally:
            engine.dispose()


def _autocommitting(engine: sa.Engine) -> sa.Connection:
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()
