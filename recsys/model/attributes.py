"""Attribute values as labels that items share, for example "genre: drama"."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.snapshot.item_text import item_text

MAX_LABELS = 8
"""Attribute values of an item that are used; the others are ignored."""
NO_LABEL = -1


def attribute_labels(attributes: Sequence[Mapping[str, Any]]) -> tuple[list[str], NDArray[np.int32]]:
    """Return the "key: value" labels that at least two items have, and the labels of each item.

    A list counts as several values.

    Returns
    -------
    tuple of list of str, array
        The labels, and their positions [items, labels of an item], padded with -1.
    """
    by_item = [_labels(row)[:MAX_LABELS] for row in attributes]
    counts = Counter(label for labels in by_item for label in labels)
    names = [label for label, count in counts.items() if count > 1]
    position = {label: number for number, label in enumerate(names)}
    found = np.full((len(by_item), MAX_LABELS), NO_LABEL, dtype=np.int32)
    for item, labels in enumerate(by_item):
        own = [position[label] for label in labels if label in position]
        found[item, : len(own)] = own
    widest = max(1, int((found != NO_LABEL).sum(axis=1).max(initial=0)))
    return names, found[:, :widest]


def _labels(attributes: Mapping[str, Any]) -> list[str]:
    values = (
        (key, value)
        for key in sorted(attributes)
        for value in (attributes[key] if isinstance(attributes[key], list | tuple) else [attributes[key]])
    )
    labels = (_label(key, value) for key, value in values)
    return list(dict.fromkeys(label for label in labels if label))


def _label(key: str, value: Any) -> str:
    # Many items have the same values. Others are equal to values that read otherwise: 1 to true.
    return _label_of_text(key, value) if isinstance(value, str) else item_text("", attributes={key: value})


@lru_cache(maxsize=65_536)
def _label_of_text(key: str, value: str) -> str:
    return item_text("", attributes={key: value})
