"""Convert JSON values of a file: attributes, slates and propensities."""

import json
from typing import Any

from recsys.warehouse.identifiers import identifier, identifier_of_number
from recsys.warehouse.item_prose import characters_within
from recsys.warehouse.wrong_value import WrongValue, shown

# An entry of a Postgres B-tree holds about 2,700 bytes, and an index may have two ids.
MAX_ID_BYTES = 1_000
MAX_NESTING = 100
# Postgres keeps probabilities in 32 bits.
LEAST_PROBABILITY = 1e-37


def _json(value: Any) -> Any:
    try:
        entries = json.loads(value)
    except UnicodeDecodeError as error:
        raise WrongValue("is not valid UTF-8") from error
    except (ValueError, TypeError) as error:
        raise WrongValue(f"{shown(value)} is not valid JSON") from error
    # The parsers that read it later, in Postgres and Python, have limits that depend on their stack.
    if _count(value, "[") + _count(value, "{") > MAX_NESTING and _nesting(entries) > MAX_NESTING:
        raise WrongValue(f"is nested more than {MAX_NESTING} deep")
    return entries


def _count(value: bytes | str, character: str) -> int:
    return value.count(character.encode()) if isinstance(value, bytes) else value.count(character)


def _nesting(entries: Any) -> int:
    """Return how deep lists and objects are nested."""
    depth, level = 0, [entries]
    while level := [entry for entry in level if isinstance(entry, list | dict)]:
        depth += 1
        level = [inner for entry in level for inner in (entry.values() if isinstance(entry, dict) else entry)]
    return depth


def _has_nul(entries: Any) -> bool:
    if isinstance(entries, dict):
        return any("\0" in name or _has_nul(entry) for name, entry in entries.items())
    if isinstance(entries, list):
        return any(_has_nul(entry) for entry in entries)
    return isinstance(entries, str) and "\0" in entries


def json_object(value: Any) -> str:
    """Return a JSON object as text that Postgres accepts."""
    entries = _json(value)
    if not isinstance(entries, dict):
        raise WrongValue(f"{shown(value)} is not a JSON object")
    if _count(value, "&"):
        entries = characters_within(entries)
    try:
        text = json.dumps(entries, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise WrongValue("contains NaN or Infinity") from error
    # Text may hold a backslash and "u0000", which is not a NUL character.
    if "\\u0000" in text and _has_nul(entries):
        raise WrongValue("contains a NUL character")
    return text


def text_list(value: Any) -> str:
    """Return a JSON list of ids as a Postgres array."""
    entries = _json(value)
    if not isinstance(entries, list) or not entries:
        raise WrongValue(f"{shown(value)} is not a JSON list of ids")
    texts = [
        identifier_of_number(entry)
        if isinstance(entry, int | float) and not isinstance(entry, bool)
        else identifier(entry)
        if isinstance(entry, str)
        else None
        for entry in entries
    ]
    if not all(text and "\0" not in text for text in texts):
        raise WrongValue(f"{shown(value)} is not a JSON list of ids")
    if any(len(str(text).encode()) > MAX_ID_BYTES for text in texts):
        raise WrongValue(f"has an id that is longer than {MAX_ID_BYTES} bytes")
    quoted = (str(text).replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def name_list(value: Any) -> str:
    """Return a JSON list of names, or of null where there is none, as a Postgres array."""
    entries = _json(value)
    if not isinstance(entries, list) or not all(entry is None or isinstance(entry, str) for entry in entries):
        raise WrongValue(f"{shown(value)} is not a JSON list of names and null")
    if any(entry is not None and "\0" in entry for entry in entries):
        raise WrongValue(f"{shown(value)} has a name with a NUL character")
    quoted = (
        "NULL" if entry is None else '"' + entry.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for entry in entries
    )
    return "{" + ",".join(quoted) + "}"


def probability_list(value: Any) -> str:
    """Return a JSON list of probabilities as a Postgres array."""
    entries = _json(value)
    if not isinstance(entries, list) or not all(
        isinstance(entry, int | float) and not isinstance(entry, bool) and 0 <= entry <= 1
        for entry in entries
    ):
        raise WrongValue(f"{shown(value)} is not a list of probabilities between 0 and 1")
    if any(0 < entry < LEAST_PROBABILITY for entry in entries):
        raise WrongValue(f"{shown(value)} has a probability below {LEAST_PROBABILITY:.0e}")
    return "{" + ",".join(str(float(entry)) for entry in entries) + "}"
