"""Slices of the cases: by activity of the user, by age of the item, by attributes."""

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
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue
from recsys.snapshot.targets import find_targets
from recsys.warehouse.analytics import MIN_PEOPLE

MIN_SLICE_USERS = 20
"""Smaller slices are neither compared by the gate nor shown as fairness gaps: their means are noise."""
_FAMILY_SEPARATOR = ":"
"""Separates the family of a slice from its value; slices of one family are compared for fairness."""
_MAX_VALUES = 10
"""Slices per attribute, by the most frequent values: more would make the corrected p-values useless."""
_DAY = 86_400_000_000
_AGES = (("under_7_days", 7), ("under_30_days", 30), ("under_365_days", 365))
_WORD = re.compile(r"\w+")


def family(slice_name: str) -> str | None:
    """Return the family of a slice such as "activity:low"; None for a slice without a family."""
    name, found, _ = slice_name.partition(_FAMILY_SEPARATOR)
    return name if found else None


def with_slices(
    cases: Cases,
    catalogue: Catalogue,
    settings: EvaluationSettings,
    user_attributes: Mapping[str, Mapping[str, Any]] | None = None,
    event_types: EventTypes | None = None,
) -> Cases:
    """Add slices by type of target, by repeat, by activity, by age of the item and by attributes.

    Parameters
    ----------
    user_attributes
        Attributes by user key; other users belong to no slice by user attribute.
    event_types
        Event types of the cases; None: no slices by type.

    Returns
    -------
    Cases
        `target:TYPE` are the targets by event type, `had:before` those with items that the user had an event
        with before, `had:never` the others.
        `activity:low|medium|high` are thirds of the users by the number of events before their first case.
        `item_age:*` is the time since the item's first event. `item.NAME:VALUE` and `user.NAME:VALUE` exist
        for the ten most frequent values. Slices of fewer than `MIN_PEOPLE` people are left out.
    """
    slices = _by_repeat(cases) | _by_activity(cases)
    if event_types is not None:
        kinds = find_targets(cases.sequences).event_type[cases.positions]
        slices |= _by_value("target", [(event_types.names[kind],) for kind in kinds])
    slices |= _by_age(cases, len(catalogue))
    for name in settings.item_slices:
        values = [_values(attributes.get(name)) for attributes in catalogue.attributes]
        owners = [values[target] for target in cases.targets.tolist()]
        slices |= _by_value(f"item.{name}", owners)
    for name in settings.user_slices:
        known = user_attributes or {}
        keys = cases.sequences.user_keys[cases.users].tolist()
        of_users = {key: _values(known.get(key, {}).get(name)) for key in set(keys)}
        slices |= _by_value(f"user.{name}", [of_users[key] for key in keys])
    # A slice of all cases shows nothing new. One of a few people would show how the model serves one of them.
    proper = {
        name: members
        for name, members in slices.items()
        if not members.all() and len(np.unique(cases.users[members])) >= MIN_PEOPLE
    }
    return replace(cases, slices=cases.slices | proper)


def item_features(catalogue: Catalogue) -> scipy.sparse.csr_matrix:
    """Return [items, features] with rows of length 1: attributes, or words of the title without attributes.

    Features depend on the catalogue and not on a model, so diversity is comparable between models.
    """
    names: dict[str, int] = {}
    rows, columns = [], []
    for row, (title, attributes) in enumerate(zip(catalogue.titles, catalogue.attributes, strict=True)):
        # In order, not in sets: the last digits of diversity must not differ from process to process.
        features = [f"{name}={value}" for name, given in attributes.items() for value in _values(given)]
        for feature in dict.fromkeys(features or (word.lower() for word in _WORD.findall(title))):
            rows.append(row)
            columns.append(names.setdefault(feature, len(names)))
    counts = np.bincount(rows, minlength=len(catalogue)) if rows else np.zeros(len(catalogue))
    weights = 1 / np.sqrt(np.maximum(counts, 1))[np.asarray(rows, dtype=np.int64)]
    return scipy.sparse.csr_matrix((weights, (rows, columns)), shape=(len(catalogue), max(len(names), 1)))


def _by_repeat(cases: Cases) -> dict[str, NDArray[np.bool_]]:
    sequences = cases.sequences
    pairs = sequences.event_users() * len(cases.catalogue) + sequences.item_index
    _, first = np.unique(pairs, return_index=True)
    before = ~np.isin(cases.positions, first)
    return {"had:before": before, "had:never": ~before}


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
    for part in cases.parts:
        np.minimum.at(first, part.item_index, part.occurred_at)
    age = (cases.sequences.occurred_at[cases.positions] - first[cases.targets]) / _DAY
    slices, since = {}, -1.0
    for name, days in _AGES:
        slices[f"item_age:{name}"] = (age > since) & (age < days)
        since = float(np.nextafter(days, 0))
    slices["item_age:older"] = age >= _AGES[-1][1]
    return slices


def _by_value(name: str, owned: list[tuple[str, ...]]) -> dict[str, NDArray[np.bool_]]:
    counts = Counter(value for values in owned for value in values)
    return {
        f"{name}{_FAMILY_SEPARATOR}{value}": np.array([value in values for values in owned], dtype=bool)
        for value, _ in counts.most_common(_MAX_VALUES)
    }


def _values(given: Any) -> tuple[str, ...]:
    if given is None or given == "":
        return ()
    if isinstance(given, list | tuple):
        return tuple(str(each) for each in given)
    return (str(given),)
