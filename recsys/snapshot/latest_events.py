"""Events of some users, and the latest ones of each, out of a stream that comes in no order."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import Columns
from recsys.snapshot.interactions import SCHEMA
from recsys.snapshot.names import encoded

_CUT_AT_ROWS = 1_000_000


class LatestEvents:
    """Keeps some events of each user that came by; memory is bounded by the users, not by the stream.

    Parameters
    ----------
    per_user
        How many to keep of each.
    """

    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._tables: list[pa.Table] = []
        self._kept = self._rows = 0

    def add(self, events: pa.Table) -> None:
        """Take in events with the columns of `SCHEMA`, in any order."""
        if events.num_rows:
            self._tables.append(events)
            self._rows += events.num_rows
        if self._rows > 2 * self._kept + _CUT_AT_ROWS:
            self._cut()

    def table(self) -> pa.Table:
        """Return what is kept, each user's events together, latest first."""
        self._cut()
        return self._tables[0]

    def _cut(self) -> None:
        if not self._tables:
            self._tables = [SCHEMA.empty_table()]
            return
        events = pa.concat_tables(self._tables).unify_dictionaries().combine_chunks()
        _, owner = encoded(events.column(Columns.USER_KEY))
        times = events.column(Columns.OCCURRED_AT).cast(pa.int64()).to_numpy()
        order = np.lexsort((-events.column(Columns.FEEDBACK_ID).to_numpy(), -times, owner))
        counts = np.bincount(owner)
        place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._tables = [events.take(pa.array(order[place < self._per_user]))]
        self._rows = self._kept = self._tables[0].num_rows


def of_users(events: pa.Table, user_keys: pa.Array, *, others: bool = False) -> pa.Table:
    """Return the events of these users, or of all others."""
    names, owners = encoded(events.column(Columns.USER_KEY))
    wanted = pc.is_in(names, value_set=user_keys).to_numpy(zero_copy_only=False) != others
    return events.filter(pa.array(wanted[owners]))
