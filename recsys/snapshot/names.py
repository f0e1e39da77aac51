"""Columns of names that repeat, taken apart into the different names and numbers."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def encoded(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the different names, maybe with some that do not occur, and [events] which one each has."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all
        array = array.chunk(0) if array.num_chunks else pa.array([], pa.string()).dictionary_encode()
    return array.dictionary, array.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def different(column: pa.ChunkedArray) -> pa.Array:
    """Return the names that occur."""
    names, codes = encoded(column)
    return names.take(pa.array(np.unique(codes)))
