"""Read the texts of items as people read them: lists become text, and HTML entities become characters."""

import ast
import html
import json
import re
from typing import Any

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LONGEST_LITERAL = 1_000_000
# Exports of review data hold these; other text in brackets, such as the title "[REC]", is text.
_LIST = re.compile(r"""\[\s*(?:\]|\[|["']|null\b|None\b)""")


def prose(text: str) -> str | None:
    """Return text with lists joined by spaces and HTML entities as characters; None if nothing is left."""
    if _LIST.match(text) and (entries := _entries(text)) is not None:
        text = " ".join(entry.strip() for entry in entries if entry.strip())
    return characters(text) or None


def characters(text: str) -> str:
    """Return the text with HTML entities as characters. An `&` without a semicolon is text."""
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text) if "&" in text else text


def characters_within(entries: Any) -> Any:
    """Return JSON with HTML entities as characters in all texts."""
    if isinstance(entries, str):
        return characters(entries)
    if isinstance(entries, list):
        return [characters_within(entry) for entry in entries]
    if isinstance(entries, dict):
        return {characters(name): characters_within(entry) for name, entry in entries.items()}
    return entries


def _entries(text: str) -> list[str] | None:
    """Return the texts of a list that is written as JSON or as a Python literal; None if it is neither."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if len(text) > _LONGEST_LITERAL:
            return None
        try:
            found = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    texts: list[str] = []
    waiting = [found]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list | tuple):
            waiting += reversed(entry)
        elif isinstance(entry, str):
            texts.append(entry)
        elif entry is not None:
            return None
    return texts
