"""Guard users: a share of the users, chosen by their keyed hash, whom no micro-update trains on.

No model of the hourly chain has seen their events since the last full fine-tune, so these are a fair test set
between nights. Their earlier events show what a model forgets. Only training on their events waits for the
next full fine-tune; their own recommendations use their newest events at once.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.settings import GateSettings

_HASH_DIGITS = 8


def guard_bound(share: float) -> int:
    """Return the exclusive upper bound of the first eight hex digits of guard users' keys."""
    return round(share * 2**32)


def are_guard_users(user_keys: NDArray[np.object_], share: float) -> NDArray[np.bool_]:
    """Return `[users]` whether each is a guard user, by the same rule as the SQL of micro snapshots."""
    bound = guard_bound(share)
    return np.fromiter((int(key[:_HASH_DIGITS], 16) < bound for key in user_keys), bool, len(user_keys))


def has_forgotten(parent: float, change: float, users: int, gate: GateSettings) -> bool | None:
    """Return whether an update ranks guard users' events worse than its parent by more than the margin.

    The observed drop decides, even if it may be due to chance: an update does not get the benefit of the
    doubt.

    Parameters
    ----------
    parent, change
        Metric of the parent, and the metric of the update minus that.
    users
        Number of guard users evaluated. Below `gate.min_evaluated_users` a single one may cause the drop.

    Returns
    -------
    None if there are too few users to decide.
    """
    if users < gate.min_evaluated_users:
        return None
    return not change >= -gate.forgetting_margin * parent  # true for NaN
