"""Dictionary encoding of text columns: the distinct values once, and an integer code for each row."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def encode(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the dictionary `[values]` and the codes `[rows]`.

    The dictionary of a column that was encoded before may hold values that no row has.
    """
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all
        array = array.chunk(0) if array.num_chunks else pa.array([], pa.string()).dictionary_encode()
    return array.dictionary, array.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def drop_unused(dictionary: pa.Array, codes: NDArray[np.integer]) -> tuple[pa.Array, NDArray[np.int32]]:
    """Return the dictionary without the values that no row has, and codes that refer to it.

    Parameters
    ----------
    dictionary
        `[values]`
    codes
        `[rows]` position of each row's value.
    """
    used = np.zeros(len(dictionary), dtype=np.bool_)
    used[codes] = True
    occurring = np.flatnonzero(used)
    new_codes = np.empty(len(dictionary), dtype=np.int32)
    new_codes[occurring] = np.arange(len(occurring), dtype=np.int32)
    return dictionary.take(pa.array(occurring)), new_codes[codes]


def distinct(column: pa.ChunkedArray) -> pa.Array:
    """Return the values that occur."""
    dictionary, codes = encode(column)
    return drop_unused(dictionary, codes)[0]
