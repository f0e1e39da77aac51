"""Asks the warehouse which users of an older snapshot may still be trained on."""

import pyarrow as pa

from recsys.columns import Columns
from recsys.snapshot.extract import Extraction
from recsys.warehouse.statements import read_statement


def trainable_keys(source: Extraction, user_keys: pa.Array) -> pa.Array:
    """Return those keys whose users consent, have not asked to be forgotten and are still registered."""
    statement = read_statement("snapshot/select_trainable_keys")
    table = source.table(statement, user_keys=",".join(user_keys.to_pylist()))
    return table.column(Columns.USER_KEY).combine_chunks()
