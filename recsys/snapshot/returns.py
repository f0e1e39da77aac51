"""Find the purchases that a return takes back."""

import numpy as np
from numpy.typing import NDArray


def find_returned(
    user: NDArray[np.int64],
    item: NDArray[np.int32],
    event_type: NDArray[np.int16],
    is_return: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return the positions of the events that were taken back.

    A return takes back the latest earlier event of its user, item and type that no other return has taken
    back. One that finds none, because the event is older than the data, takes back nothing.

    Parameters
    ----------
    user, item, event_type
        `[events]` sorted by user, then time.
    is_return
        `[events]` whether the event is a return.
    """
    if not is_return.any():
        return np.zeros(0, dtype=np.int64)
    # Only users with a return are looked at; there are few.
    rows = np.flatnonzero(np.isin(user, user[is_return]))
    open_events: dict[tuple[int, int, int], list[int]] = {}
    taken_back = []
    columns = (user[rows], item[rows], event_type[rows], is_return[rows])
    for row, *key, returned in zip(rows.tolist(), *(column.tolist() for column in columns), strict=True):
        earlier = open_events.setdefault((key[0], key[1], key[2]), [])
        if not returned:
            earlier.append(row)
        elif earlier:
            taken_back.append(earlier.pop())
    return np.array(taken_back, dtype=np.int64)
