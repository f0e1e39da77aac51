"""Read logged slates from the warehouse; slates that cannot be weighted are counted by reason."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM
from recsys.snapshot.sequences import Catalogue, microseconds
from recsys.warehouse.statements import read_statement
from recsys.warehouse.tables import promotion_ledger, publications

NO_PROPENSITIES = "no_propensities"
COUNT_DIFFERS = "propensity_count_differs"
NOT_A_NUMBER = "propensity_not_a_number"
NOT_POSITIVE = "propensity_not_above_0"
ABOVE_ONE = "propensity_above_1"
UNKNOWN_VERSION = "unknown_model_version"
UNKNOWN_USER = "user_without_key_or_consent"
ASKED = "asked_in_words"
EMPTY_SLATE = "empty_slate"
REPEATED_ITEM = "item_twice_in_slate"


@dataclass(frozen=True, eq=False)
class SlateRecords:
    """Usable slates as arrays, and the number of slates left out by reason.

    Attributes
    ----------
    user_keys
        [slates]
    slates
        [slates, positions] indices into the catalogue; `NO_ITEM` beyond a slate's end and for items that
        are not in the catalogue.
    shown
        [slates, positions] whether the slate has an item at this position.
    propensities, rewards
        [slates, positions]; the reward is 1 when feedback names the item and the slate, else 0.
    shown_at
        [slates] microseconds since 1970 UTC.
    left_out
        Number of slates by the first reason that applied.
    """

    user_keys: NDArray[np.object_]
    slates: NDArray[np.int32]
    shown: NDArray[np.bool_]
    propensities: NDArray[np.float64]
    rewards: NDArray[np.float64]
    shown_at: NDArray[np.int64]
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.slates)


def read_slates(
    engine: sa.Engine,
    catalogue: Catalogue,
    since: datetime,
    until: datetime,
    event_types: Sequence[str],
) -> SlateRecords:
    """Read the slates shown from `since` to `until` (exclusive) with their rewards.

    A slate is left out and counted by reason when its propensities are missing, 0, above 1 or not numbers,
    when it names a model version that was never published or decided on, or when its user has no key or
    no consent.

    Parameters
    ----------
    catalogue
        The catalogue that `SlateRecords.slates` indexes.
    event_types
        Feedback of these types that names the item and the slate is the reward.
    """
    parameters = {"since": since, "until": until, "event_types": list(event_types)}
    with engine.connect() as connection:
        # The planner expects one answer and would compare every slate with every answer.
        connection.exec_driver_sql("set local enable_nestloop = off")
        rows = (
            connection.execute(sa.text(read_statement("evaluation/select_logged_slates")), parameters)
            .mappings()
            .all()
        )
    return screen_slates([dict(row) for row in rows], catalogue, known_versions(engine))


def known_versions(engine: sa.Engine) -> frozenset[str]:
    """Return the model versions that were ever published or had a decision."""
    statement = sa.union(sa.select(publications.c.model_version), sa.select(promotion_ledger.c.model_version))
    with engine.connect() as connection:
        return frozenset(connection.execute(statement).scalars())


def screen_slates(
    rows: Sequence[dict[str, Any]], catalogue: Catalogue, versions: Collection[str]
) -> SlateRecords:
    """Turn rows of `select_logged_slates` into arrays; unusable slates are counted by reason."""
    reasons = [_unusable(row, versions) for row in rows]
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    width = max((len(row["item_ids"]) for row in kept), default=0)
    records = SlateRecords(
        user_keys=np.array([row["user_key"] for row in kept], dtype=object),
        slates=np.full((len(kept), width), NO_ITEM, dtype=np.int32),
        shown=np.zeros((len(kept), width), dtype=bool),
        propensities=np.ones((len(kept), width)),
        rewards=np.zeros((len(kept), width)),
        shown_at=np.array([microseconds(row["shown_at"]) for row in kept], dtype=np.int64),
        left_out=dict(Counter(reason for reason in reasons if reason is not None)),
    )
    for number, row in enumerate(kept):
        items, answered = row["item_ids"], set(row["answered"])
        records.slates[number, : len(items)] = catalogue.lookup(items)
        records.shown[number, : len(items)] = True
        records.propensities[number, : len(items)] = row["propensities"]
        records.rewards[number, : len(items)] = [item in answered for item in items]
    return records


def _unusable(row: dict[str, Any], versions: Collection[str]) -> str | None:
    items, propensities = row["item_ids"], row["propensities"]
    if not items:
        return EMPTY_SLATE
    if row["user_key"] is None:
        return UNKNOWN_USER
    if row["model_version"] not in versions:
        return UNKNOWN_VERSION
    if row["asked_in_words"]:
        return ASKED
    if propensities is None:
        return NO_PROPENSITIES
    if len(propensities) != len(items):
        return COUNT_DIFFERS
    if any(value is None or value != value for value in propensities):
        return NOT_A_NUMBER
    if min(propensities) <= 0:
        return NOT_POSITIVE
    if max(propensities) > 1:
        return ABOVE_ONE
    if len(set(items)) != len(items):
        return REPEATED_ITEM
    return None
