"""Check that a job fits in memory before it starts."""

from collections.abc import Mapping
from pathlib import Path

import psutil

from recsys.errors import ConfigurationError

_CGROUP = Path("/sys/fs/cgroup")
_GIB = 1 << 30
_FLOAT = 4
CATALOGUE_ITEM_BYTES = 2_048
"""Size of an item's id, title, text, attributes and digest as Python objects."""


def available_memory() -> int:
    """Return the bytes that this process can still allocate, within the limit of its container if any."""
    free: int = psutil.virtual_memory().available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())["anon"]
    except (OSError, ValueError, KeyError):  # not in a container, or no limit
        return free
    return max(0, min(free, limit - int(used)))


def require_memory(what: str, parts: Mapping[str, int], remedy: str) -> None:
    """Raise an error unless all parts fit in memory together.

    Parameters
    ----------
    what
        Subject of the message.
    parts
        Size of each part in bytes, by name.
    remedy
        What the user can do other than add memory.

    Raises
    ------
    ConfigurationError
        They do not fit; the message gives the size of each part.
    """
    needed, free = sum(parts.values()), available_memory()
    if needed > free:
        listed = ", ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items())
        raise ConfigurationError(
            f"{what} needs about {needed / _GIB:.1f} GiB of memory ({listed}), but {free / _GIB:.1f} GiB are "
            f"free; give the machine or the container more memory, or {remedy}"
        )


def training_bytes(items: int, dim: int, text_width: int) -> dict[str, int]:
    """Return the bytes that fine-tuning needs for the items, by purpose."""
    return {
        # Batches, their concatenation, and a copy in catalogue order.
        "text vectors": 3 * _FLOAT * items * text_width,
        # The answers, and while they are computed three copies as above, for about one phrase an item.
        "answers": 4 * _FLOAT * items * text_width,
        # Embeddings, gradient, two moments, moving average and a work copy.
        "id embeddings and optimizer": 6 * _FLOAT * items * dim,
        "item vectors": 3 * _FLOAT * items * dim,
    }


def serving_bytes(items: int, dim: int, text_width: int) -> dict[str, int]:
    """Return the bytes that a model needs on another catalogue, by purpose."""
    return {
        "catalogue": CATALOGUE_ITEM_BYTES * items,
        # Of the checkpoint, of the catalogue, and a normalised copy.
        "text vectors": 3 * _FLOAT * items * text_width,
        # Of the checkpoint and of the catalogue.
        "answers": 2 * _FLOAT * items * text_width,
        "item vectors": 6 * _FLOAT * items * dim,
    }
