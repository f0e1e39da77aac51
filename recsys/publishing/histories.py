"""Read users' histories from the warehouse in batches: events for the model, and what is off their lists."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray
from pyarrow import csv

from recsys.model.reasons import ReasonTexts
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.item_attributes import read_attributes
from recsys.snapshot.scrub import scrub_comments
from recsys.snapshot.sequences import Sequences, hidden_until, microseconds
from recsys.warehouse.statements import read_statement, render_literals
from recsys.warehouse.tables import items

_TYPES = {
    "user_index": pa.int64(),
    "item_id": pa.dictionary(pa.int32(), pa.string()),
    "event_type": pa.dictionary(pa.int32(), pa.string()),
    "value": pa.float64(),
    "feedback_id": pa.int64(),
    "occurred_at": pa.int64(),
    "readable": pa.bool_(),
    "comment": pa.string(),
}
_PARSE = csv.ParseOptions(newlines_in_values=True)
# Postgres writes an empty string as "" and null as an empty field.
_CONVERT = csv.ConvertOptions(
    column_types=_TYPES,
    strings_can_be_null=False,
    null_values=[""],
    true_values=["t"],
    false_values=["f"],
)


HISTORY_EVENTS = 1_000
"""Latest events of a user that a score may read; the user encoder reads fewer, repeats may need them all."""


@dataclass(frozen=True, eq=False)
class UserBatch:
    """Consecutive staged users.

    Attributes
    ----------
    first
        Position of the first user among the staged ones.
    histories
        [users] latest events that the model may read; users without events are included.
    hidden_user, hidden_item
        [pairs] position of the user in the batch, and of an item in the catalogue that is off the user's
        list, by all feedback.
    seeds
        [users] random seeds for drawing lists; None if no lists are drawn.
    texts
        [users] texts of reasons in the language of each user; None: in English.
    """

    first: int
    histories: Sequences
    hidden_user: NDArray[np.int64]
    hidden_item: NDArray[np.int32]
    seeds: NDArray[np.int64] | None = None
    texts: list[ReasonTexts] | None = None


def read_horizon(connection: sa.Connection) -> int:
    """Return the transaction id below which feedback is validated, so that the model may read it."""
    horizon: int = connection.execute(
        sa.text(read_statement("publishing/compute_publication_horizon"))
    ).scalar_one()
    connection.commit()
    return horizon


def count_items(connection: sa.Connection) -> int:
    """Return the number of items in the warehouse."""
    count: int = connection.execute(sa.select(sa.func.count()).select_from(items)).scalar_one()
    connection.commit()
    return count


def read_catalogue(connection: sa.Connection, statement: str = "snapshot/select_items") -> Catalogue:
    """Read all items ordered by id, including unavailable ones; by default as they are now."""
    rows = connection.exec_driver_sql(read_statement(statement)).all()
    connection.commit()
    return Catalogue.build(
        item_ids=[row.item_id for row in rows],
        titles=[row.title for row in rows],
        descriptions=[row.description for row in rows],
        attributes=read_attributes(row.attributes for row in rows),
        available=np.array([row.available for row in rows], dtype=bool),
        rest_days=[row.rest_days for row in rows],
        available_from=[row.available_from for row in rows],
        available_until=[row.available_until for row in rows],
        variant_of=[row.variant_of for row in rows],
    )


def read_event_types(connection: sa.Connection) -> EventTypes:
    """Read the event types; a model may not know all of them yet."""
    rows = connection.exec_driver_sql(read_statement("snapshot/select_event_types")).mappings().all()
    connection.commit()
    return EventTypes.from_records(dict(row) for row in rows)


def read_histories(
    connection: sa.Connection,
    catalogue: Catalogue,
    event_types: EventTypes,
    *,
    last: int,
    batch_users: int,
    max_events: int,
    through_transaction_id: int,
    publication_seed: int | None = None,
    at: datetime | None = None,
    first: int = 0,
) -> Iterator[UserBatch]:
    """Yield the histories of the staged users, with one short read per batch.

    No transaction stays open between batches, so that an hour of scoring does not hold back vacuum.

    Parameters
    ----------
    connection
        The session that staged the users (`recsys.publishing.staging`).
    first, last
        Positions of the staged users to read; the last one is exclusive.
    batch_users
        Number of users in a batch.
    max_events
        Number of latest events per user for the model; all events count for what is off a user's list.
    through_transaction_id
        The model reads feedback with lower transaction ids.
    publication_seed
        From `publication_seed`; None if no lists are drawn.
    at
        Time for which it is decided what is off a user's list; default: now.
    """
    moment = microseconds(at or datetime.now(UTC))
    current_types = read_event_types(connection)
    for lower in range(first, last, batch_users):
        upper = min(lower + batch_users, last)
        events = _copy(
            connection,
            render_literals(
                read_statement("publishing/select_user_events"),
                {"lower": lower, "upper": upper, "through_transaction_id": through_transaction_id},
            ),
        )
        user = events["user_index"].to_numpy()
        item = _lookup(events["item_id"], catalogue.index).astype(np.int32)
        readable = events["readable"].to_numpy()
        histories = Sequences.build(
            user_keys=_keys(connection, lower, upper),
            user_index=user[readable],
            item_index=item[readable],
            event_type=_lookup(events["event_type"], event_types.index)[readable],
            value=events["value"].to_numpy()[readable],
            occurred_at=events["occurred_at"].to_numpy()[readable],
            feedback_id=events["feedback_id"].to_numpy()[readable],
            event_types=event_types,
            rest_days=catalogue.rest_days,
            comment=_comments(connection, lower, upper, through_transaction_id, events["feedback_id"]).filter(
                events["readable"]
            ),
        )
        histories = histories.last(max_events).asked(moment)
        seeds = None if publication_seed is None else _seeds(connection, lower, upper, publication_seed)
        texts = read_texts(connection, _languages(connection, lower, upper))
        connection.commit()
        kind = _lookup(events["event_type"], current_types.index)
        off = item >= 0
        off[off] = _are_hidden(
            events.filter(pa.array(off)), kind[off], item[off], current_types, catalogue, moment
        )
        yield UserBatch(lower, histories, user[off], item[off], seeds, texts)


def read_texts(connection: sa.Connection, asked: Sequence[str | None]) -> list[ReasonTexts]:
    """Return the texts [users] for users who ask for these languages; users of one language share them."""
    different = list(dict.fromkeys(asked))
    rows = connection.execute(sa.text(read_statement("publishing/select_texts")), {"asked": different}).all()
    spoken = {row.language: ReasonTexts(row.language, row.texts) for row in rows}
    texts = {row.asked: spoken[row.language] for row in rows}
    return [texts[language] for language in asked]


def _are_hidden(
    events: pa.Table,
    event_type: NDArray[np.int64],
    item: NDArray[np.int32],
    event_types: EventTypes,
    catalogue: Catalogue,
    moment: int,
) -> NDArray[np.bool_]:
    """Return [events] whether the event keeps its item off its user's list at this moment."""
    sentiment = event_types.sentiment(event_type, events["value"].to_numpy())
    days = event_types.hides_for(event_type, sentiment, catalogue.rest_days[item])
    hidden: NDArray[np.bool_] = hidden_until(events["occurred_at"].to_numpy(), days) >= moment
    return hidden


def _copy(connection: sa.Connection, statement: str) -> pa.Table:
    buffer = io.BytesIO()
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.copy_expert(f"COPY ({statement}) TO STDOUT (FORMAT csv, HEADER)", buffer)
    buffer.seek(0)
    return csv.read_csv(buffer, parse_options=_PARSE, convert_options=_CONVERT).unify_dictionaries()


def _comments(
    connection: sa.Connection,
    first: int,
    last: int,
    through_transaction_id: int,
    feedback_id: pa.ChunkedArray,
) -> pa.ChunkedArray:
    """Return [events] scrubbed comments; null where the event expresses an opinion without its comment."""
    found = _copy(
        connection,
        render_literals(
            read_statement("publishing/select_user_comments"),
            {"lower": first, "upper": last, "through_transaction_id": through_transaction_id},
        ),
    ).combine_chunks()
    position = pc.index_in(feedback_id, value_set=found["feedback_id"])
    return scrub_comments(found["comment"].combine_chunks()).take(position)


def _keys(connection: sa.Connection, first: int, last: int) -> list[str]:
    statement = render_literals(
        read_statement("publishing/select_staged_user_keys"), {"lower": first, "upper": last}
    )
    return list(connection.exec_driver_sql(statement).scalars().all())


def _languages(connection: sa.Connection, first: int, last: int) -> list[str | None]:
    statement = render_literals(
        read_statement("publishing/select_staged_user_languages"), {"lower": first, "upper": last}
    )
    return list(connection.exec_driver_sql(statement).scalars().all())


def _seeds(connection: sa.Connection, first: int, last: int, publication_seed: int) -> NDArray[np.int64]:
    statement = render_literals(
        read_statement("publishing/select_staged_user_seeds"),
        {"lower": first, "upper": last, "publication_seed": publication_seed},
    )
    return np.array(connection.exec_driver_sql(statement).scalars().all(), dtype=np.int64)


def _lookup(column: pa.ChunkedArray, index: dict[str, int]) -> NDArray[np.int64]:
    """Return [rows] the positions of a dictionary-encoded column's values; -1 for unknown values."""
    if len(column) == 0:
        return np.zeros(0, dtype=np.int64)
    encoded = column.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    names = encoded.dictionary.to_pylist()
    positions = np.fromiter((index.get(name, -1) for name in names), dtype=np.int64, count=len(names))
    found: NDArray[np.int64] = positions[encoded.indices.to_numpy()]
    return found
