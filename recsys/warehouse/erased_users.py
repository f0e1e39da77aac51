"""Tombstones of erased users: keyed hashes by which a load recognises whom it must not bring back.

A tombstone is another hash than the user's key in snapshots and logs, so it cannot be compared with theirs.
Hashes are computed here and not in Postgres, as those in `recsys.warehouse.pseudonyms`.
"""

import hmac
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recsys.errors import ConfigurationError
from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.tables import erased_users, users

_LOCK = "erased users"
_PURPOSE = b"erased user\0"
_KEY_PURPOSE = b"id of a key of erased users"
_KEY_ID_DIGITS = 12

logger = logging.getLogger(__name__)


def remember_erased(connection: sa.Connection, user_id: str, key: bytes) -> None:
    """Store a user's tombstone. Until the transaction ends, no load commits rows that it has checked before.

    Parameters
    ----------
    key
        The secret of the keyed hash, `Settings.require_pseudonym_key()`.
    """
    lock(connection, _LOCK)
    connection.execute(
        insert(erased_users)
        .values(tombstone=_tombstone(user_id, key), key_id=_key_id(key))
        .on_conflict_do_nothing()
    )


def readmit(engine: sa.Engine, user_id: str, keys: Sequence[bytes]) -> bool:
    """Remove a user's tombstone, so that their rows can be loaded again; return whether there was one.

    Parameters
    ----------
    keys
        `Settings.tombstone_keys()`.
    """
    tombstones = [_tombstone(user_id, key) for key in keys]
    with engine.begin() as connection:
        removed = connection.execute(
            erased_users.delete().where(erased_users.c.tombstone.in_(tombstones)).returning(sa.literal(1))
        ).all()
    return bool(removed)


def withdraw_consent_of_erased(connection: sa.Connection, user_ids: Sequence[str], key: bytes) -> None:
    """Withdraw the consent of those of these users who were erased before an application added them again."""
    by_tombstone = {_tombstone(user_id, key): user_id for user_id in user_ids}
    known = connection.scalars(
        sa.select(erased_users.c.tombstone).where(erased_users.c.tombstone.in_(by_tombstone))
    ).all()
    if known:
        logger.warning(
            "%d users who were erased have been added again; they are not trained on until `recsys readmit` "
            "and their consent say so",
            len(known),
        )
        returned = [by_tombstone[tombstone] for tombstone in known]
        connection.execute(users.update().where(users.c.user_id.in_(returned)).values(consent=False))


class ErasedUsers:
    """Who was erased, as a load knows it.

    Parameters
    ----------
    keys
        `Settings.tombstone_keys()`. Needed only once somebody was erased.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys
        self._erased_at: dict[str, datetime] = {}
        self._known: tuple[int, datetime | None] = (0, None)

    def refresh(self, connection: sa.Connection) -> bool:
        """Read the tombstones if there are new ones; return whether there were.

        Until the transaction ends, nobody is erased.

        Raises
        ------
        ConfigurationError
            Somebody was erased, and the key that would recognise them is not configured.
        """
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:name, 0))"), {"name": _LOCK}
        )
        count, latest = connection.execute(
            sa.select(sa.func.count(), sa.func.max(erased_users.c.erased_at))
        ).one()
        if (count, latest) == self._known:
            return False
        rows = connection.execute(sa.select(erased_users)).all()
        if unknown := {row.key_id for row in rows} - {_key_id(key) for key in self._keys}:
            unrecognised = sum(row.key_id in unknown for row in rows)
            raise ConfigurationError(
                f"{unrecognised} users were erased under a pseudonym key that is not configured, so they "
                "would not be recognised in the file: set RECSYS_PSEUDONYM_KEY, and put keys that were "
                "replaced into RECSYS_PREVIOUS_PSEUDONYM_KEYS"
            )
        self._known = (count, latest)
        self._erased_at = {row.tombstone: row.erased_at for row in rows}
        return True

    def among(self, user_ids: Iterable[str]) -> dict[str, datetime]:
        """Return which of these users were erased, and when."""
        if not self._erased_at:
            return {}
        found = {}
        for user_id in user_ids:
            for key in self._keys:
                if (time := self._erased_at.get(_tombstone(user_id, key))) is not None:
                    found[user_id] = time
        return found


def _tombstone(user_id: str, key: bytes) -> str:
    return hmac.digest(key, _PURPOSE + user_id.encode(), "sha256").hex()


def _key_id(key: bytes) -> str:
    return hmac.digest(key, _KEY_PURPOSE, "sha256").hex()[:_KEY_ID_DIGITS]
