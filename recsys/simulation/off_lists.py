"""Which items are off the simulated users' lists, by the definition that the real lists follow."""

from collections.abc import Iterable

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.simulation.slates import Reactions
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import hidden_until
from recsys.warehouse.statements import read_statement


class OffLists:
    """Until when each item is off each user's lists; what is off a list is not chosen again.

    The items of a simulation have no rest periods of their own, so the event types decide.

    Attributes
    ----------
    until
        [users, items] microseconds since 1970 UTC, or `FOR_EVER`; 0: the item was never off.
    """

    def __init__(self, event_types: EventTypes, until: NDArray[np.int64]) -> None:
        self.event_types, self.until = event_types, until

    @classmethod
    def of_nobody(cls, event_types: EventTypes, users: int, items: int) -> "OffLists":
        """Return that nothing is off anybody's list."""
        return cls(event_types, np.zeros((users, items), dtype=np.int64))

    def copy(self) -> "OffLists":
        """Return a copy that changes on its own."""
        return OffLists(self.event_types, self.until.copy())

    def at(
        self, users: NDArray[np.int64], slates: NDArray[np.int32], shown_at: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return [slates, positions] whether the item is off its user's list when it is shown."""
        return np.asarray(self.until[users[:, None], slates] >= shown_at[:, None])

    def add(
        self, users: NDArray[np.int64], slates: NDArray[np.int32], reactions: Iterable[Reactions]
    ) -> None:
        """Take off the lists what users reacted to, in slates [slates, positions] of `users` [slates]."""
        for events in reactions:
            types = self.event_types.lookup([events.event_type] * len(events.slate))
            sentiment = self.event_types.sentiment(types, events.value)
            until = hidden_until(events.occurred_at, self.event_types.hides_for(types, sentiment))
            place = users[events.slate], slates[events.slate, events.position]
            np.maximum.at(self.until, place, until)


def read_event_types(engine: sa.Engine) -> EventTypes:
    """Return what events mean in a warehouse."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(read_statement("snapshot/select_event_types")).mappings().all()
    return EventTypes.from_records([dict(row) for row in rows])
