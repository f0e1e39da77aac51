"""Parts of the cases that are looked at by themselves: by activity, by age, by any attribute."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recsys.evaluation.ranking.cases import Cases
from recsys.settings import EvaluationSettings
from recsys.snapshot.sequences import Catalogue

FAMILY_SEPARATOR = ":"
"""Between the family of a slice and its value; slices of one family are compared for fairness."""
_DAY = 86_400_000_000
_AGES = (("under_7_days", 7), ("under_30_days", 30), ("under_365_days", 365))
_WORD = re.compile(r"\w+")


def family(slice_name: str) -> str | None:
    """Return the family of a slice such as "activity:low"; None for one that stands alone."""
    name, found, _ = slice_name.partition(FAMILY_SEPARATOR)
    return name if found else None


def with_slices(
    cases: Cases,
    catalogue: Catalogue,
    settings: EvaluationSettings,
    user_attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Cases:
    """Return the cases with slices by activity, by age of the item, and by the attributes in the settings.

    Parameters
    ----------
    user_attributes
        By user key; users who are not there belong to no slice.

    Returns
    -------
    Cases
        `activity:low|medium|high` are thirds of the users by their events before the first case;
        `item_age:*` goes by the time since the item's first event; `item.NAME:VALUE` and
        `user.NAME:VALUE` exist for the most frequent values.
    """
    slices = _by_activity(cases)
    slices |= _by_age(cases, len(catalogue))
    for name in settings.item_slices:
        values = [_values(attributes.get(name)) for attributes in catalogue.attributes]
        owners = [values[target] for target in cases.targets.tolist()]
        slices |= _by_value(f"item.{name}", owners, settings.max_slices_per_attribute)
    for name in settings.user_slices:
        known = user_attributes or {}
        keys = cases.sequences.user_keys[cases.users].tolist()
        of_users = {key: _values(known.get(key, {}).get(name)) for key in set(keys)}
        slices |= _by_value(
            f"user.{name}", [of_users[key] for key in keys], settings.max_slices_per_attribute
        )
    # One that holds nothing, or everything, says nothing.
    telling = {name: members for name, members in slices.items() if members.any() and not members.all()}
    return replace(cases, slices=cases.slices | telling)


def item_features(catalogue: Catalogue) -> scipy.sparse.csr_matrix:
    """Return [items, features] with rows of length 1: attributes and, for items without, words of the title.

    They belong to the catalogue and not to a model, so that diversity means the same for all models.
    """
    names: dict[str, int] = {}
    rows, columns = [], []
    for row, (title, attributes) in enumerate(zip(catalogue.titles, catalogue.attributes, strict=True)):
        features = {f"{name}={value}" for name, given in attributes.items() for value in _values(given)}
        for feature in features or {word.lower() for word in _WORD.findall(title)}:
            rows.append(row)
            columns.append(names.setdefault(feature, len(names)))
    counts = np.bincount(rows, minlength=len(catalogue)) if rows else np.zeros(len(catalogue))
    weights = 1 / np.sqrt(np.maximum(counts, 1))[np.asarray(rows, dtype=np.int64)]
    return scipy.sparse.csr_matrix((weights, (rows, columns)), shape=(len(catalogue), max(len(names), 1)))


def _by_activity(cases: Cases) -> dict[str, NDArray[np.bool_]]:
    first = np.full(cases.sequences.users, np.iinfo(np.int64).max)
    np.minimum.at(first, cases.users, cases.positions)
    present = np.unique(cases.users)
    events = np.zeros(cases.sequences.users, dtype=np.int64)
    events[present] = first[present] - cases.sequences.offsets[present]
    low, high = np.quantile(events[present], [1 / 3, 2 / 3])
    own = events[cases.users]
    return {
        "activity:low": own <= low,
        "activity:medium": (own > low) & (own <= high),
        "activity:high": own > high,
    }


def _by_age(cases: Cases, items: int) -> dict[str, NDArray[np.bool_]]:
    first = np.full(items, np.iinfo(np.int64).max)
    np.minimum.at(first, cases.sequences.item_index, cases.sequences.occurred_at)
    age = (cases.sequences.occurred_at[cases.positions] - first[cases.targets]) / _DAY
    slices, since = {}, -1.0
    for name, days in _AGES:
        slices[f"item_age:{name}"] = (age > since) & (age < days)
        since = float(np.nextafter(days, 0))
    slices["item_age:older"] = age >= _AGES[-1][1]
    return slices


def _by_value(name: str, owned: list[tuple[str, ...]], most: int) -> dict[str, NDArray[np.bool_]]:
    counts = Counter(value for values in owned for value in values)
    return {
        f"{name}{FAMILY_SEPARATOR}{value}": np.array([value in values for values in owned], dtype=bool)
        for value, _ in counts.most_common(most)
    }


def _values(given: Any) -> tuple[str, ...]:
    if given is None or given == "":
        return ()
    if isinstance(given, list | tuple):
        return tuple(str(each) for each in given)
    return (str(given),)
