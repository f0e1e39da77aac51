"""Finds users' keys and weights while their events stream by, in place of a join in Postgres.

The join would take Postgres longer than reading the events does. An event therefore comes with a seeded
64-bit hash of its user's id: two registered users with one hash are noticed, and another seed is taken;
that an id which is not registered at all falls on one of a million users has a chance of 5e-14.
"""

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.columns import Columns
from recsys.warehouse.statements import read_statement

if TYPE_CHECKING:  # reading a snapshot needs no database driver
    from recsys.snapshot.extract import Extraction

USER_HASH = "user_hash"
_SEED_BITS = 63


@dataclass(frozen=True)
class SnapshotUsers:
    """Registered users in the order of their hashes."""

    hashes: NDArray[np.int64]
    """[users]"""
    keys: pa.Array
    """[users] of strings; null: not to be trained on."""
    weights: NDArray[np.float32]
    """[users] what the events of each weigh."""
    eligible: NDArray[np.bool_]
    """[users] whether they have a key."""

    @classmethod
    def build(cls, table: pa.Table) -> "SnapshotUsers":
        """Take in `user_hash`, `user_key` and `weight` of users in any order."""
        hashes = table.column(USER_HASH).to_numpy()
        order = np.argsort(hashes)
        keys = table.column(Columns.USER_KEY).combine_chunks().take(pa.array(order))
        weights = table.column(Columns.WEIGHT).to_numpy()[order].astype(np.float32)
        return cls(hashes[order], keys, weights, keys.is_valid().to_numpy(zero_copy_only=False))

    @property
    def are_distinct(self) -> bool:
        """Whether no two users have the same hash."""
        return bool((self.hashes[1:] != self.hashes[:-1]).all())

    def places(self, hashes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the users of these hashes are [hashes]; -1: nobody who may be trained on."""
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where((self.hashes[places] == hashes) & self.eligible[places], places, -1)


def read_users(
    source: "Extraction", upper_transaction_id: int, min_noisy_weight: float
) -> tuple[SnapshotUsers, int]:
    """Return all users and the seed of their hashes, which `select_full_snapshot` needs too.

    Parameters
    ----------
    upper_transaction_id
        Feedback that weights depend on lies below it.
    min_noisy_weight
        Weight of users who give nothing but noise.
    """
    while True:
        seed = secrets.randbits(_SEED_BITS)
        users = SnapshotUsers.build(
            source.table(
                read_statement("select_full_snapshot_users"),
                upper_transaction_id=upper_transaction_id,
                min_noisy_weight=min_noisy_weight,
                hash_seed=seed,
            )
        )
        if users.are_distinct:
            return users, seed
