"""Read attributes as the warehouse holds them: any JSON that an application wrote."""

import json
import logging
from collections.abc import Iterable
from typing import Any

# What reads attributes later is recursive; files are held to the same limit when they are loaded.
_MAX_NESTING = 100

logger = logging.getLogger(__name__)


def read_attributes(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return attributes from JSON texts.

    What is no object becomes an attribute without a name. One application's mistake must not stop the loop:
    attributes that are nested too deep, or hold a number of thousands of digits, are left out with a warning.
    """
    found = [_read(text) for text in texts]
    if unreadable := found.count(None):
        logger.warning(
            "the attributes of %d items or users are left out: they are nested more than %d deep, or hold "
            "numbers of thousands of digits",
            unreadable,
            _MAX_NESTING,
        )
    return [{} if attributes is None else attributes for attributes in found]


def _read(text: str) -> dict[str, Any] | None:
    try:
        attributes = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if text.count("[") + text.count("{") > _MAX_NESTING and _is_deep(attributes):
        return None
    if isinstance(attributes, dict):
        return attributes
    return {} if attributes is None else {"": attributes}


def _is_deep(value: Any) -> bool:
    level, depth = [value], 0
    while level := [entry for entry in level if isinstance(entry, list | dict)]:
        depth += 1
        if depth > _MAX_NESTING:
            return True
        level = [inner for entry in level for inner in (entry.values() if isinstance(entry, dict) else entry)]
    return False
