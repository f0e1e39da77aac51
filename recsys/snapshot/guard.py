"""Guard users: a share of the users, fixed by their keyed hash, whom no micro-update trains on.

Whatever they did since the last full fine-tune is therefore unseen by every model of the hourly chain,
which keeps an honest test alive between nights; and what they did before shows what a model forgets.
They wait for the next full fine-tune only as training examples: as context of their own recommendations
their newest events count at once.
"""

import numpy as np
from numpy.typing import NDArray

from recsys.settings import GateSettings

_HASH_DIGITS = 8


def guard_bound(share: float) -> int:
    """Return the number below which the first eight hex digits of a guard user's key lie."""
    return round(share * 2**32)


def are_guard_users(user_keys: NDArray[np.object_], share: float) -> NDArray[np.bool_]:
    """Return [users] whether each is a guard user; the SQL of micro snapshots asks the same."""
    bound = guard_bound(share)
    return np.fromiter((int(key[:_HASH_DIGITS], 16) < bound for key in user_keys), bool, len(user_keys))


def has_forgotten(parent: float, change: float, users: int, gate: GateSettings) -> bool | None:
    """Return whether an update ranks guard users' events worse than its parent by more than the margin.

    The observed fall decides, not what is shown beyond chance: forgetting is not to be given the benefit.

    Parameters
    ----------
    parent, change
        How well the parent ranks them, and what the update adds to that.
    users
        How many they are; of fewer than `gate.min_evaluated_users`, a single one may make the fall.

    Returns
    -------
    None when they are too few to tell.
    """
    if users < gate.min_evaluated_users:
        return None
    return not change >= -gate.forgetting_margin * parent  # NaN has kept nothing
