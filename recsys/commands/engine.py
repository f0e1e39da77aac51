"""A command's connection to the warehouse."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

    from recsys.settings import Settings


@contextmanager
def warehouse_engine(settings: "Settings") -> "Iterator[sa.Engine]":
    """Yield an engine for the warehouse and close its connections at the end.

    Raises
    ------
    ConfigurationError
        `RECSYS_WAREHOUSE_URL` is not set.
    """
    from recsys.warehouse.engine import connect

    engine = connect(settings.require_warehouse_url())
    try:
        yield engine
    finally:
        engine.dispose()
