"""Visits: runs of a user's events with less than half an hour between them.

Within a visit the next event depends on the events just before it: one more song of the album. Who comes back
wants something else, so the parts of a score weigh differently then; see `recsys.model.fusion`.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.sequences import Sequences

VISIT_GAP = 30 * 60 * 1_000_000
"""Microseconds without an event after which a visit is over, as in web analytics."""


def visits(sequences: Sequences) -> NDArray[np.int64]:
    """Return `[events]` the number of the visit; numbers grow in the order of events, from 0."""
    starts = np.zeros(sequences.events, dtype=bool)
    starts[sequences.offsets[:-1][sequences.lengths > 0]] = True
    starts[1:] |= np.diff(sequences.occurred_at) > VISIT_GAP
    return np.cumsum(starts) - 1


def starts_of_visits(sequences: Sequences) -> NDArray[np.int64]:
    """Return `[visits]` the position of each visit's first event."""
    return np.flatnonzero(np.diff(visits(sequences), prepend=-1))


def are_returning(histories: Sequences) -> NDArray[np.bool_]:
    """Return `[users]` whether the user has events, and the latest visit is over at the `moments`."""
    some = histories.lengths > 0
    returning = np.zeros(histories.users, dtype=bool)
    latest = histories.occurred_at[histories.offsets[1:][some] - 1]
    returning[some] = histories.moments[some] - latest > VISIT_GAP
    return returning
