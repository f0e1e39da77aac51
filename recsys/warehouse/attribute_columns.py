"""Read the columns of a file that its table does not have as attributes of the row.

Tables of products come with a column for each property: brand, aisle, price. A cell is a number, a JSON list
or object, a list separated by bars (`drama|comedy`), or a text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa

from recsys.warehouse.files.chunks import Chunk

ATTRIBUTES = "attributes"
# Without leading zeros, and short enough for a number to hold all digits: others are codes.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,6})?")


def add_to_attributes(chunk: Chunk, names: Sequence[str]) -> Chunk:
    """Return the chunk with the columns `names` moved into the column `attributes`.

    An attribute that the column `attributes` gives itself stays. Where that column holds no JSON object,
    it is unchanged, and so is rejected later.
    """
    own = chunk.columns.get(ATTRIBUTES, pa.nulls(chunk.rows, pa.binary())).to_pylist()
    found: list[dict[str, Any]] = [{} for _ in range(chunk.rows)]
    for name in names:
        if name in chunk.columns:
            for row, cell in enumerate(chunk.columns[name].to_pylist()):
                if (value := attribute(cell)) is not None:
                    found[row][name] = value
    merged = pa.array([_merged(cell, others) for cell, others in zip(own, found, strict=True)], pa.binary())
    kept = {name: column for name, column in chunk.columns.items() if name not in names}
    return replace(chunk, columns={**kept, ATTRIBUTES: merged})


def attribute(cell: Any) -> Any:
    """Return the value of a cell; None if it is empty."""
    if isinstance(cell, float) and (cell != cell or cell in (float("inf"), float("-inf"))):
        return None
    if not isinstance(cell, bytes):
        return cell if cell is None or isinstance(cell, int | float) else str(cell)
    # What is wrong stays wrong, so that the check of the column `attributes` rejects the row.
    text = cell.decode("utf-8", "surrogateescape").strip()
    if text[:1] in ("[", "{"):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    if _NUMBER.fullmatch(text):
        return json.loads(text)
    if "|" in text:
        return [part for part in map(str.strip, text.split("|")) if part] or None
    return text or None


def _merged(cell: Any, others: Mapping[str, Any]) -> bytes | None:
    if not others:
        return cell  # type: ignore[no-any-return]
    own: Any = {}
    if cell is not None:
        try:
            own = json.loads(cell)
        except (ValueError, TypeError, RecursionError):
            return cell  # type: ignore[no-any-return]
        if not isinstance(own, dict):
            return cell  # type: ignore[no-any-return]
    return json.dumps({**others, **own}, ensure_ascii=False).encode("utf-8", "surrogatepass")
