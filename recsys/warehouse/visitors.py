"""Visitors: sessions of people who are not registered, each a user that the pipeline adds.

Feedback names a session instead of a user. A trigger gives it the id of the session's visitor or, once
somebody has joined the session at a login, the id of that user (`sql/migrations/versions/0022_visitors.py`).
So everything that follows knows only users.
"""

import logging
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import WarehouseError
from recsys.warehouse.advisory_locks import block_partition_moves
from recsys.warehouse.statements import read_statement
from recsys.warehouse.windows import Window

_PREFIX = "visitor:"

logger = logging.getLogger(__name__)


def visitor_id(session_id: str) -> str:
    """Return the user id of the visitor of a session that nobody has joined."""
    return _PREFIX + session_id


def visitor_ids(session_ids: pa.Array) -> pa.Array:
    """Return the user ids of the visitors of some sessions `[rows]`; null where the session is null."""
    return pc.binary_join_element_wise(_PREFIX, session_ids, "")


def session_ids(visitors: Iterable[str]) -> list[str]:
    """Return the session ids of some visitors, given by their user ids."""
    return [visitor.removeprefix(_PREFIX) for visitor in visitors]


def user_of(connection: sa.Connection, session_id: str) -> str:
    """Return the user id of a session: the user who has joined it, or its visitor."""
    user_id: str = connection.execute(
        sa.text("SELECT user_of(:session)"), {"session": session_id}
    ).scalar_one()
    return user_id


def unjoined_visitor(engine: sa.Engine, session_id: str) -> str:
    """Return the user id of a session's visitor; raise WarehouseError if the session belongs to a user."""
    with engine.connect() as connection:
        owner = user_of(connection, session_id)
    if owner != visitor_id(session_id):
        raise WarehouseError(
            "this session belongs to a user since a login, and so does what was done in it; name the user"
        )
    return owner


def settle_visitors(engine: sa.Engine, window: Window, *, consent: bool) -> int:
    """Make the visitors of a window users; return how many are new. A second call changes nothing.

    Rows of a session that was joined while they were being written go to the user who has joined it. Rows
    whose session id says that there is none, such as `None`, name no visitor: validation quarantines them.

    Parameters
    ----------
    consent
        Consent to training of visitors of whom the application has not stated it.
    """
    bounds = {
        "lower_transaction_id": window.lower_transaction_id,
        "upper_transaction_id": window.upper_transaction_id,
    }
    with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        block_partition_moves(connection)
        connection.execute(sa.text(read_statement("warehouse/give_rows_to_users")), bounds)
        added = connection.execute(
            sa.text(read_statement("warehouse/register_visitors")), {**bounds, "consent": consent}
        ).rowcount
    if added:
        logger.info("window %d: %d new visitors", window.window_id, added)
    return added
