"""Lists as published, ordered again by the SQL functions that serve them, for events of the past.

A Postgres in a temporary folder holds a data set. At midnight the lists of items that people had together
are computed as a publication does, from the feedback until then, and at every full hour what is trending. For
an event of the day, the reactions of its user since midnight order the pool again, with the weights of the
model that published it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg2.extras
import sqlalchemy as sa
from numpy.typing import NDArray

from benchmarks.datasets import Dataset
from benchmarks.made_warehouse import made_warehouse
from recsys.evaluation.ranking.metrics import user_means
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.ranking import mask_hidden
from recsys.model.recommender import Recommender
from recsys.serving.install import install_serving
from recsys.serving.shared_lists import compute_item_lists, compute_shared_lists
from recsys.settings import ServingSettings
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import hidden_items
from recsys.warehouse.engine import connect
from recsys.warehouse.tables import event_types

POOL = 200
_DAY = 86_400_000_000
_HOUR = 3_600_000_000
MOST = 50
"""Reactions that serving reads."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVERYTHING = 2**62
_ORDER = """
select cases.number, moved.ids
from cases
join pools using (pool)
cross join lateral (
    select array_agg(live.item_id) as ids
    from serving.live_ranking(
        pools.item_ids, array_fill(0::real, array[cardinality(pools.item_ids)]), cases.reacted, cases.weights,
        cases.had
    ) as live
) as moved
where cases.hour = %s and moved.ids is not null
"""


@contextmanager
def live_lists(dataset: Dataset) -> Iterator["LiveLists"]:
    """Yield the lists of a data set that lies in a Postgres of its own."""
    with made_warehouse(None) as (_, url, _folder):
        engine = connect(url)
        try:
            install_serving(engine)
            load(engine, dataset)
            yield LiveLists(engine, dataset)
        finally:
            engine.dispose()


class LiveLists:
    """What `serving.live_ranking` makes of published pools."""

    def __init__(self, engine: sa.Engine, dataset: Dataset) -> None:
        self._engine = engine
        self._sequences = dataset.sequences
        self._item_ids = dataset.catalogue.item_ids
        self._index = dataset.catalogue.index
        self._published: Recommender | None = None
        self._hour: int | None = None

    def publish(self, model: Recommender, at: int) -> None:
        """Publish a model's vectors and weights, and what goes together at a time (microseconds)."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("truncate item_lists")
            compute_item_lists(connection, EPOCH + timedelta(microseconds=at), EVERYTHING)
            if model is not self._published:
                vectors = [str(row.tolist()) for row in model.item_vectors()]
                connection.exec_driver_sql("truncate item_vectors")
                _insert(
                    connection,
                    "item_vectors (item_id, model_version, vector)",
                    list(zip(self._item_ids.tolist(), vectors, strict=True)),
                    "(%s, '1', %s)",
                )
                live = model.live_interest
                connection.exec_driver_sql(
                    "truncate publications, model_versions cascade;"
                    "insert into publications"
                    " (run_key, model_version, scope, users, items, through_transaction_id)"
                    " values ('freshness', '1', 'all', 0, 0, 0);"
                    "insert into model_versions (model_version, kind, base_transaction_id,"
                    " trained_transaction_id, live_strength, live_decay, live_trending,"
                    " live_trending_half_life_days, live_trending_before_reaction)"
                    f" values ('1', 'full', 0, 0, {live.strength}, {live.decay}, {live.trending},"
                    f" {live.trending_half_life_days or 'null'}, {live.trending_before_reaction})"
                )
                self._published = model

    def order(
        self, pools: dict[int, NDArray[np.int32]], positions: NDArray[np.int64], since: int
    ) -> list[NDArray[np.int64] | None]:
        """Return for each event the order in which its user would see the pool just before.

        Parameters
        ----------
        pools
            Items of each user's published pool, best first.
        positions
            [events] positions among the data set's events.
        since
            Time of the publication, in microseconds since 1970.

        Returns
        -------
        [events] items, best first; None where nothing is known of what the user has reacted to.
        """
        cases = []
        owners = self._sequences.event_users()[positions]
        assert self._published is not None
        decay = self._published.live_interest.decay
        for number, (position, user) in enumerate(zip(positions.tolist(), owners.tolist(), strict=True)):
            reacted, weights = reactions(self._sequences, position, since, decay)
            if len(reacted) or self._published.live_interest.trending_before_reaction:
                first = int(self._sequences.offsets[user])
                had = np.unique(self._sequences.item_index[first:position])
                hour = int(self._sequences.occurred_at[position]) // _HOUR
                cases.append((number, user, self._names(reacted), weights.tolist(), self._names(had), hour))
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "create temporary table pools (pool integer, item_ids text[]) on commit drop;"
                "create temporary table cases (number integer, pool integer, reacted text[], weights real[],"
                " had text[], hour bigint) on commit drop"
            )
            _insert(connection, "pools", [(user, self._names(pool)) for user, pool in pools.items()])
            _insert(connection, "cases", cases)
            found: list[NDArray[np.int64] | None] = [None] * len(positions)
            for hour in sorted({case[-1] for case in cases}):
                self._find_trends(connection, hour)
                for number, ids in connection.exec_driver_sql(_ORDER, (hour,)):
                    found[number] = np.array([self._index[item] for item in ids], dtype=np.int64)
        return found

    def _find_trends(self, connection: sa.Connection, hour: int) -> None:
        """Compute what is trending at the start of an hour since 1970."""
        if hour != self._hour:
            settings, at = ServingSettings(), EPOCH + timedelta(hours=hour)
            compute_shared_lists(
                connection, settings, "trending", settings.trending_days, at=at, through=EVERYTHING
            )
            self._hour = hour

    def _names(self, items: NDArray[Any]) -> list[str]:
        names: list[str] = self._item_ids[items].tolist()
        return names


def reactions(
    sequences: Sequences, position: int, since: int, decay: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return items and weights that `serving.judged` returns just before an event, latest first."""
    user = int(np.searchsorted(sequences.offsets, position, side="right")) - 1
    first = int(sequences.offsets[user])
    first += int(np.searchsorted(sequences.occurred_at[first:position], since))
    events = np.arange(first, position)[::-1][:MOST]
    disliked = sequences.sentiment[events] < 0
    weights = np.where(disliked, -1.0, sequences.weight[events]) * decay ** np.arange(len(events))
    said = disliked | (sequences.weight[events] > 0)
    return sequences.item_index[events][said], weights[said].astype(np.float32)


def ndcg_of_lists(
    model: Recommender, lists: LiveLists, sequences: Sequences, positions: NDArray[np.int64]
) -> tuple[float, float]:
    """Return NDCG@10 on events of lists that a model publishes every day: as published, and live."""
    values = np.zeros((len(positions), 2))
    days = sequences.occurred_at[positions] // _DAY * _DAY
    for day in np.unique(days).tolist():
        values[days == day] = _ndcg_of_day(model, lists, sequences, positions[days == day], day)
    published, live = user_means(values, sequences.event_users()[positions])[2].mean(0).tolist()
    return published, live


def _ndcg_of_day(
    model: Recommender, lists: LiveLists, sequences: Sequences, positions: NDArray[np.int64], day: int
) -> NDArray[np.float64]:
    """Return NDCG@10 [events, 2] of the events of a day."""
    owners = sequences.event_users()[positions]
    users = np.unique(owners)
    pools: dict[int, NDArray[np.int32]] = {}
    for begin in range(0, len(users), 256):
        some = users[begin : begin + 256]
        known = sequences.take_users(some).before(day).asked(np.full(len(some), day))
        scores = mask_hidden(model.score(known), known)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :POOL].astype(np.int32)
        pools |= zip(some.tolist(), best, strict=True)
    lists.publish(model, day)
    live = lists.order(pools, positions, day)
    values = np.zeros((len(positions), 2))
    case, gone = hidden_items(sequences.prefixes(positions))
    begins = np.searchsorted(case, np.arange(len(positions) + 1))
    for number, (position, user) in enumerate(zip(positions.tolist(), owners.tolist(), strict=True)):
        hidden = gone[begins[number] : begins[number + 1]]
        moved = live[number]
        for column, order in enumerate((pools[user], pools[user] if moved is None else moved)):
            shown = order[~np.isin(order, hidden)][:10]
            [place] = np.nonzero(shown == sequences.item_index[position])
            values[number, column] = ndcg_of_ranks(place + 1, 10).sum()
    return values


def load(engine: sa.Engine, dataset: Dataset) -> None:
    """Load items, users and feedback; values and comments are left out."""
    sequences, catalogue = dataset.sequences, dataset.catalogue
    owners = sequences.event_users()
    # The log's order within a user is the order of the rows.
    names = np.array(dataset.event_types.names)
    times = [EPOCH + timedelta(microseconds=moment) for moment in sequences.occurred_at.tolist()]
    events = list(
        zip(
            sequences.user_keys[owners].tolist(),
            catalogue.item_ids[sequences.item_index].tolist(),
            names[sequences.event_type].tolist(),
            times,
            strict=True,
        )
    )
    with engine.begin() as connection:
        connection.execute(event_types.delete())
        connection.execute(event_types.insert(), dataset.event_types.to_records())
        _insert(connection, "items (item_id, title)", [(item, item) for item in catalogue.item_ids.tolist()])
        _insert(connection, "users (user_id)", [(user,) for user in sequences.user_keys.tolist()])
        _insert(connection, "feedback (user_id, item_id, event_type, occurred_at)", events)


def _insert(
    connection: sa.Connection, target: str, rows: Sequence[tuple[Any, ...]], template: str | None = None
) -> None:
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        psycopg2.extras.execute_values(
            cursor, f"insert into {target} values %s", rows, template, page_size=1000
        )
