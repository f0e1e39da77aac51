"""Compose the text of an item for the text encoder. No other module does."""

from collections.abc import Mapping
from typing import Any


def item_text(title: str, description: str = "", attributes: Mapping[str, Any] | None = None) -> str:
    """Return ``title. description. key: value, value; key: value``.

    So that equal items have equal text, empty parts are left out, attributes are sorted by key (JSONB has no
    order) and white space is normalised. An item without text gives an empty string.
    """
    parts = [part.rstrip(".") for part in (_clean(title), _clean(description)) if part]
    if attributes and (described := _attributes(attributes)):
        parts.append(described)
    return ". ".join(parts)


def item_description(text: str, title: str, attributes: Mapping[str, Any] | None = None) -> str:
    """Extract the description from a text that `item_text` composed with this title and attributes."""
    before, after = item_text(title), _attributes(attributes or {})
    text = text.removesuffix(after).removesuffix(". ") if after else text
    return text.removeprefix(before).removeprefix(". ") if before else text


def _attributes(attributes: Mapping[str, Any]) -> str:
    pairs = ((_clean(key), _value(attributes[key])) for key in sorted(attributes))
    return "; ".join(f"{key}: {value}" if key else value for key, value in pairs if value)


def _value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_clean(key)} {_value(value[key])}" for key in sorted(value))
    if isinstance(value, list | tuple):
        return ", ".join(text for text in map(_value, value) if text)
    return _clean(str(value))


def _clean(text: str) -> str:
    return " ".join(text.split())
