"""Refuse what does not fit into memory before it is begun, with the figures and a way out."""

from collections.abc import Mapping
from pathlib import Path

import psutil

from recsys.errors import ConfigurationError

_CGROUP = Path("/sys/fs/cgroup")
_GIB = 1 << 30
_FLOAT = 4
CATALOGUE_ITEM_BYTES = 2_048
"""Id, title, text, attributes and digest of an item as Python objects."""


def available_memory() -> int:
    """Return the bytes that this process may still take, within a container's limit where there is one."""
    free: int = psutil.virtual_memory().available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())["anon"]
    except (OSError, ValueError, KeyError):  # no container, or one without a limit
        return free
    return max(0, min(free, limit - int(used)))


def require_memory(what: str, parts: Mapping[str, int], remedy: str) -> None:
    """Raise unless all parts fit at the same time.

    Parameters
    ----------
    what
        Subject of the message.
    parts
        Bytes by name.
    remedy
        What to do, beside giving more memory.

    Raises
    ------
    ConfigurationError
        With each part's size.
    """
    needed, free = sum(parts.values()), available_memory()
    if needed > free:
        listed = ", ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items())
        raise ConfigurationError(
            f"{what} needs about {needed / _GIB:.1f} GiB of memory ({listed}), but {free / _GIB:.1f} GiB are "
            f"free; give the machine or the container more memory, or {remedy}"
        )


def training_bytes(items: int, dim: int, text_width: int) -> dict[str, int]:
    """Return the memory that fine-tuning takes for the items, by what takes it."""
    return {
        # Batches, their concatenation, and that in the catalogue's order.
        "text vectors": 3 * _FLOAT * items * text_width,
        # What items answer to requests, and while that is made about a phrase an item, as above.
        "answers": 4 * _FLOAT * items * text_width,
        # Ids, their gradient, two moments, the moving average and a work copy.
        "id embeddings and optimizer": 6 * _FLOAT * items * dim,
        "item vectors": 3 * _FLOAT * items * dim,
    }


def serving_bytes(items: int, dim: int, text_width: int) -> dict[str, int]:
    """Return the memory that a model takes on a catalogue it is brought to, by what takes it."""
    return {
        "catalogue": CATALOGUE_ITEM_BYTES * items,
        # Those of the checkpoint, those of the catalogue, and a normalised copy.
        "text vectors": 3 * _FLOAT * items * text_width,
        # Those of the checkpoint and those of the catalogue.
        "answers": 2 * _FLOAT * items * text_width,
        "item vectors": 6 * _FLOAT * items * dim,
    }
