"""Whom and what the hashes in the events of a full snapshot stand for, as of the same moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.columns import Columns
from recsys.snapshot.hashed_names import HashedNames
from recsys.warehouse.statements import read_statement

if TYPE_CHECKING:  # reading a snapshot needs no database driver
    from recsys.snapshot.extract import Extraction

HASHES = {
    Columns.USER_KEY: "user_hash",
    Columns.ITEM_ID: "item_hash",
    Columns.EVENT_TYPE: "event_type_hash",
}
"""Columns of events in the stream, by the column of the snapshot that takes their place."""
_STATEMENTS = {
    Columns.USER_KEY: "snapshot/select_full_snapshot_users",
    Columns.ITEM_ID: "snapshot/select_full_snapshot_items",
    Columns.EVENT_TYPE: "snapshot/select_full_snapshot_event_types",
}


@dataclass(frozen=True)
class Registered:
    """Users who may be trained on, items and event types."""

    names: Mapping[str, HashedNames]
    """By column of the snapshot: `user_key`, `item_id`, `event_type`."""
    weights: NDArray[np.float32]
    """[users] what the events of each weigh."""

    @classmethod
    def read(
        cls, source: "Extraction", hash_seed: int, upper_transaction_id: int, min_noisy_weight: float
    ) -> "Registered | None":
        """Read all that are registered; None: two of them have one hash, take another seed.

        Parameters
        ----------
        hash_seed
            How `select_full_snapshot` hashes names.
        upper_transaction_id
            Feedback that weights depend on lies below it.
        min_noisy_weight
            Weight of users who give nothing but noise.
        """
        tables = {
            column: source.table(
                read_statement(statement),
                hash_seed=hash_seed,
                upper_transaction_id=upper_transaction_id,
                min_noisy_weight=min_noisy_weight,
            )
            for column, statement in _STATEMENTS.items()
        }
        if any(len(table.column("hash").unique()) < table.num_rows for table in tables.values()):
            return None
        # In the order of the names, so that the bytes of a snapshot do not depend on the seed.
        ordered = {
            column: table.filter(table.column("name").is_valid()).sort_by("name")
            for column, table in tables.items()
        }
        names = {
            column: HashedNames(table.column("name").combine_chunks(), table.column("hash").to_numpy())
            for column, table in ordered.items()
        }
        return cls(names, ordered[Columns.USER_KEY].column(Columns.WEIGHT).to_numpy())
