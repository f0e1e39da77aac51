"""Numbers among an item's attributes, such as a price, a year or a duration.

A text encoder reads a number as words, and cannot tell that 1994 is next to 1995. So each number also becomes
features of its place among the quantiles of the catalogue (piecewise linear encoding; Gorishniy et al.,
2022), and a learned projection of them is part of the item's vector, like its text. A missing number has no
effect.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ATTRIBUTES = 4
"""Attributes that are read: those that most items have."""
BINS = 16
_LEAST_ITEMS = 10
_LEAST_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class ItemNumbers:
    """Which attributes are numbers, and their quantiles in the catalogue of a full fine-tune.

    Attributes
    ----------
    edges
        By name of the attribute: [bins + 1] increasing quantiles.
    """

    edges: Mapping[str, NDArray[np.float64]]

    @classmethod
    def find(cls, attributes: Sequence[Mapping[str, Any]]) -> "ItemNumbers":
        """Find the attributes that are numbers for a twentieth of the items and for ten of them."""
        counts = Counter(name for row in attributes for name, value in row.items() if is_number(value))
        least = max(_LEAST_ITEMS, _LEAST_SHARE * len(attributes))
        edges = {}
        for name, count in counts.most_common(MAX_ATTRIBUTES):
            values = read_numbers(attributes, name)
            quantiles = np.unique(np.nanquantile(values, np.linspace(0, 1, BINS + 1)))
            if count >= least and len(quantiles) > 1:
                edges[name] = quantiles
        return cls({name: edges[name] for name in sorted(edges)})

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(len(quantiles) for quantiles in self.edges.values())

    def features(self, attributes: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Return [items, width]: how far each number is into each bin, and whether it exists.

        How far goes from -0.5 to 0.5; a missing number has zeros only.
        """
        columns = [np.zeros((len(attributes), 0))]
        for name, quantiles in self.edges.items():
            values = read_numbers(attributes, name)
            into = np.clip((values[:, None] - quantiles[:-1]) / np.diff(quantiles), 0, 1) - 0.5
            known = np.isfinite(values)[:, None]
            columns.append(np.where(known, np.concatenate([into, np.ones((len(values), 1))], axis=1), 0.0))
        return np.concatenate(columns, axis=1).astype(np.float32)


def is_number(value: Any) -> bool:
    """Return whether the value is a finite number; true and false are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON has integers of any length
        return False


def read_numbers(attributes: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """Return [items] the attribute's number; NaN where it is missing or something else."""
    return np.array([float(row[name]) if is_number(row.get(name)) else np.nan for row in attributes])
