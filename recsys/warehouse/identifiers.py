"""Give an id the same text in every file format.

Tools turn ids into floating-point numbers when a column has an empty cell: 17850 becomes `17850.0`, an empty
cell `nan`, and an id of more than 15 digits loses its last ones. The first is undone, the others are refused.
"""

import json
import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.warehouse.wrong_value import WrongValue, shown

_LARGEST_EXACT = 2**53
_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0")
_SCIENTIFIC = re.compile(r"-?[0-9](?:\.[0-9]+)?[eE]\+[0-9]+")
_SPACES = [character.encode() for character in map(chr, range(0x3001)) if character.isspace()]
# Tables by byte: those that a space starts or ends with in UTF-8, such as the no-break space, C2 A0.
_STARTS_SPACE = np.isin(np.arange(256), [space[0] for space in _SPACES])
_ENDS_SPACE = np.isin(np.arange(256), [space[-1] for space in _SPACES])


def identifier(text: str) -> str | None:
    """Return an id without surrounding spaces and without `.0` of a whole number; None if nothing is left.

    Raises
    ------
    WrongValue
        The text is `nan`, a number that has lost digits, or a JSON list or object.
    """
    text = text.strip()
    if whole := _WHOLE_NUMBER.fullmatch(text):
        if abs(int(whole[1])) > _LARGEST_EXACT:
            raise _lost_digits(text)
        return str(int(whole[1]))  # -0.0 is 0
    if text in ("nan", "NaN"):
        raise WrongValue(f"is {text!r}, which is how some tools write an empty cell")
    if _SCIENTIFIC.fullmatch(text):
        raise _lost_digits(text)
    if text[:1] in ("[", "{") and _is_json(text):
        raise WrongValue(f"{shown(text)} is a list or an object and not an id")
    return text or None


def identifier_of_number(number: Any) -> str:
    """Return the text of an id that a file holds as a number; raise WrongValue if it has lost digits."""
    if isinstance(number, float):
        if not math.isfinite(number):
            raise WrongValue(f"{shown(number)} is not an id")
        if abs(number) > _LARGEST_EXACT:
            raise _lost_digits(number)
    if isinstance(number, float | Decimal) and number == int(number):
        return str(int(number))
    return str(number)


def unusual_identifiers(column: pa.Array) -> list[int]:
    """Return the rows of a text column whose value `identifier` may change or refuse.

    It looks at bytes of whole columns, because most files have no such value.
    """
    if not pc.sum(pc.binary_length(column)).as_py():
        return []
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    content = np.frombuffer(column.buffers()[2], np.uint8)
    starts, ends = offsets[:-1], offsets[1:]
    content = content[: offsets[-1]]
    filled = ends > starts
    first = content[np.minimum(starts, len(content) - 1)]
    last = content[np.maximum(ends - 1, 0)]
    unusual = _STARTS_SPACE[first] | _ENDS_SPACE[last] | (first == ord("[")) | (first == ord("{"))
    unusual |= (ends - starts == 3) & ((first | 32) == ord("n")) & ((last | 32) == ord("n"))
    everything = content.tobytes()
    if b"." in everything:
        unusual |= last == ord("0")
    if b"+" in everything:
        unusual |= np.asarray(pc.fill_null(pc.match_substring(column, "+"), False))
    rows: list[int] = np.flatnonzero(unusual & filled).tolist()
    return rows


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    except RecursionError:
        return True
    return True


def _lost_digits(number: Any) -> WrongValue:
    return WrongValue(f"{shown(number)} is a rounded number that has lost digits; write the id as text")
