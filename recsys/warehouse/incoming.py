"""Columns of the files for each table, and the check of each column."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from recsys.warehouse.value_checks import MAX_ID_BYTES, Checked


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


def _identifier(rows: Checked, name: str, *, required: bool = True) -> pa.Array:
    return rows.text(name, required=required, max_bytes=MAX_ID_BYTES)


def _feedback(rows: Checked) -> dict[str, pa.Array]:
    return {
        "event_id": _identifier(rows, "event_id", required=False),
        "user_id": _identifier(rows, "user_id"),
        "item_id": _identifier(rows, "item_id"),
        "event_type": _identifier(rows, "event_type"),
        "value": rows.number("value"),
        "comment": rows.text("comment"),
        "impression_id": _identifier(rows, "impression_id", required=False),
        "occurred_at": rows.time("occurred_at"),
    }


def _items(rows: Checked) -> dict[str, pa.Array]:
    return {
        "item_id": _identifier(rows, "item_id"),
        "title": rows.text("title"),
        "description": rows.text("description"),
        "attributes": rows.json_object("attributes"),
        "available": rows.boolean("available"),
    }


def _users(rows: Checked) -> dict[str, pa.Array]:
    return {
        "user_id": _identifier(rows, "user_id"),
        "consent": rows.boolean("consent"),
        "attributes": rows.json_object("attributes"),
    }


def _impressions(rows: Checked) -> dict[str, pa.Array]:
    return {
        "impression_id": _identifier(rows, "impression_id"),
        "user_id": _identifier(rows, "user_id"),
        "query": rows.text("query"),
        "item_ids": rows.text_list("item_ids", required=True),
        "propensities": rows.number_list("propensities"),
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
            optional=("title", "description", "attributes", "available"),
            check=_items,
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
