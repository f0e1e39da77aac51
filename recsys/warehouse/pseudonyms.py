"""Keyed hashes of user ids, the only identifiers of users outside the warehouse.

HMAC-SHA256, cut to 128 bits. Without the key a hash cannot be traced to its user, not even by hashing every
known id. Hashes are computed here and not in Postgres, so that the key never reaches the server, its logs or
its statistics.
"""

import hmac
from collections.abc import Iterable, Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.erased_users import withdraw_consent_of_erased
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import users

_HEX_DIGITS = 32
_VISITOR = "fffff"
_BATCH_USERS = 20_000


def user_key(user_id: str, key: bytes, *, visitor: bool = False) -> str:
    """Return the keyed hash of a user id, 32 hexadecimal digits.

    Those of visitors, and no others, begin with fffff, so that who has only the hash can tell visitors from
    users. As the highest numbers they are never those of guard users.
    """
    digits = hmac.digest(key, user_id.encode(), "sha256").hex()[:_HEX_DIGITS]
    if visitor:
        return _VISITOR + digits[len(_VISITOR) :]
    return digits if not digits.startswith(_VISITOR) else "0" + digits[1:]


def are_visitors(user_keys: Iterable[str]) -> NDArray[np.bool_]:
    """Return `[users]` whether each is a visitor."""
    return np.fromiter((key.startswith(_VISITOR) for key in user_keys), np.bool_)


def fill_user_keys(engine: sa.Engine, key: bytes) -> int:
    """Store a keyed hash for every user without one; return the number of users.

    Users who were erased and whom an application has added again lose their consent to training.

    Several processes may call it at once, and it continues after being killed.

    Parameters
    ----------
    key
        The secret of the keyed hash, `Settings.require_pseudonym_key()`.
    """
    filled = 0
    while user_ids := _fill_batch(engine, key):
        filled += len(user_ids)
    return filled


def _fill_batch(engine: sa.Engine, key: bytes) -> Sequence[str]:
    with engine.begin() as connection:
        lock(connection, "fill_user_keys")
        found = connection.execute(
            sa.select(users.c.user_id, users.c.kind == "visitor")
            .where(users.c.user_key.is_(None))
            .order_by(users.c.user_id)
            .limit(_BATCH_USERS)
        ).all()
        user_ids = [user_id for user_id, _ in found]
        if user_ids:
            connection.execute(
                sa.text(read_statement("warehouse/update_user_keys")),
                {
                    "user_ids": list(user_ids),
                    "user_keys": [user_key(user_id, key, visitor=visitor) for user_id, visitor in found],
                },
            )
            withdraw_consent_of_erased(connection, user_ids, key)
    return user_ids
