"""Turns of those who change what the registry and the ledger say together."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from recsys.warehouse.locks import take_turns

_NAME = "model registry"


@contextmanager
def registry_turn(engine: sa.Engine) -> Iterator[None]:
    """Wait until nobody else promotes, rolls back, mends the alias or prunes; then have the turn.

    A version that is being promoted is not pruned, and the alias is not moved to a champion that has
    just been replaced. The ledger stays correct without this. It ends with the process that has it.
    """
    with engine.begin() as connection:
        # Only reads and a lock: it holds no transaction id, so windows of feedback do not wait for it.
        take_turns(connection, _NAME)
        yield
