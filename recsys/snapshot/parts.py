"""Work with events that are divided into parts by users, without holding all of them in memory."""

from collections import abc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences, distinct_comments


@dataclass(frozen=True)
class PartsBefore(abc.Sequence[Sequences]):
    """The events before a time (exclusive) of each part; all users stay. Indexing loads a part."""

    parts: Sequence[Sequences]
    time: datetime | int

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Sequences:  # type: ignore[override] # no slices
        return self.parts[number].before(self.time)


def sortable(user_keys: NDArray[np.object_]) -> NDArray[np.bytes_]:
    """Return `[users]` keys that sort as they do in `Sequences`, in a byte a character."""
    return user_keys.astype(np.bytes_)


def take_keys(parts: Sequence[Sequences], keys: NDArray[np.bytes_]) -> Sequences:
    """Return the users with these keys, sorted by key. One part is loaded at a time.

    The result is the same however the users are divided.

    Parameters
    ----------
    keys
        From `sortable`, in any order; keys that nobody has are skipped.
    """
    found = [_with_own_comments(part.take_users(np.isin(sortable(part.user_keys), keys))) for part in parts]
    together = Sequences.concat(found)
    order = np.argsort(sortable(together.user_keys), kind="stable")
    return _with_own_comments(together.take_users(order))


def _with_own_comments(events: Sequences) -> Sequences:
    """Return the events with their own comments only, in the order of the events."""
    if not len(events.comments):
        return events
    written = events.comments.take(pa.array(events.comment, mask=events.comment < 0))
    comments, comment = distinct_comments(written, events.events)
    return replace(events, comments=comments, comment=comment)
