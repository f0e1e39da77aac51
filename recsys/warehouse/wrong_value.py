"""A value of a file that cannot be loaded, and how it is shown in the reason."""

from typing import Any

_SHOWN_CHARACTERS = 60


class WrongValue(ValueError):  # noqa: N818 - a reason for a reject file, not an error of the program
    """A value is wrong; the text continues the name of its column."""


def shown(value: Any) -> str:
    """Return a value in quotes, shortened."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
