"""Columns of the files for each table, and the check of each column."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from recsys.warehouse.value_checks import Checked


@dataclass(frozen=True)
class Layout:
    """Columns of the files for one table."""

    table: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    check: Callable[[Checked], dict[str, pa.Array]]
    """Converts a chunk to the columns of the table `incoming_...`, in its order."""
    numbers: frozenset[str] = frozenset()
    """Columns that may be numbers in JSON."""
    time: str | None = None
    """Column that the table is partitioned by."""

    @property
    def known(self) -> frozenset[str]:
        """Names of all columns that are read."""
        return frozenset(self.required + self.optional)


def _feedback(rows: Checked) -> dict[str, pa.Array]:
    event_types = rows.identifier("event_type")
    return {
        "event_id": rows.identifier("event_id", required=False),
        "user_id": rows.identifier("user_id"),
        "item_id": rows.identifier("item_id"),
        "event_type": event_types,
        "value": rows.value("value", event_types),
        "comment": rows.text("comment"),
        "impression_id": rows.identifier("impression_id", required=False),
        "occurred_at": rows.time("occurred_at"),
    }


def _items(rows: Checked) -> dict[str, pa.Array]:
    available_from = rows.time("available_from", required=False)
    return {
        "item_id": rows.identifier("item_id"),
        "title": rows.prose("title"),
        "description": rows.prose("description"),
        "attributes": rows.json_object("attributes"),
        "available": rows.boolean("available"),
        "rest_days": rows.days("rest_days"),
        "available_from": available_from,
        "available_until": rows.end("available_until", start="available_from", starts=available_from),
        "variant_of": rows.identifier("variant_of", required=False),
    }


def _users(rows: Checked) -> dict[str, pa.Array]:
    return {
        "user_id": rows.identifier("user_id"),
        "consent": rows.boolean("consent"),
        "attributes": rows.json_object("attributes"),
    }


def _impressions(rows: Checked) -> dict[str, pa.Array]:
    return {
        "impression_id": rows.identifier("impression_id"),
        "user_id": rows.identifier("user_id"),
        "query": rows.text("query"),
        "item_ids": rows.text_list("item_ids", required=True),
        "propensities": rows.probability_list("propensities", as_long_as="item_ids"),
        "model_version": rows.text("model_version"),
        "shown_at": rows.time("shown_at"),
    }


LAYOUTS = {
    layout.table: layout
    for layout in (
        Layout(
            "feedback",
            required=("user_id", "item_id", "event_type", "occurred_at"),
            optional=("event_id", "value", "comment", "impression_id"),
            check=_feedback,
            numbers=frozenset({"value", "occurred_at"}),
            time="occurred_at",
        ),
        Layout(
            "items",
            required=("item_id",),
            optional=(
                "title",
                "description",
                "attributes",
                "available",
                "rest_days",
                "available_from",
                "available_until",
                "variant_of",
            ),
            check=_items,
            numbers=frozenset({"rest_days", "available_from", "available_until"}),
        ),
        Layout("users", required=("user_id",), optional=("consent", "attributes"), check=_users),
        Layout(
            "impressions",
            required=("impression_id", "user_id", "item_ids", "shown_at"),
            optional=("query", "propensities", "model_version"),
            check=_impressions,
            numbers=frozenset({"shown_at"}),
        ),
    )
}
