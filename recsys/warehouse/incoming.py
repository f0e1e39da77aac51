"""Columns of the files for each table, and the check of each column."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from recsys.columns import Columns
from recsys.warehouse.value_checks import Checked
from recsys.warehouse.visitors import visitor_ids

SESSIONS = ("visitor_id", "anonymous_id", "session_id")
"""Columns that may name the session of somebody who is not registered; the first that a row has counts."""


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
    remarks: frozenset[str] = frozenset()
    """Columns that are for people alone."""
    people: tuple[str, ...] = ()
    """Columns of which a file needs one, because a row names its person in one of them."""

    @property
    def known(self) -> frozenset[str]:
        """Names of all columns that are read."""
        return frozenset(self.required + self.people + self.optional)


def person(rows: Checked) -> dict[str, pa.Array]:
    """Return the columns of who reacted or saw a slate; a visitor's user id follows from the session's."""
    named = [name for name in SESSIONS if name in rows.columns and rows.columns[name].null_count < rows.rows]
    if not named:
        return {Columns.USER_ID: rows.identifier(Columns.USER_ID)}
    users = rows.identifier(Columns.USER_ID, required=False)
    sessions = pc.coalesce(*(rows.identifier(name, required=False) for name in named))
    rows.require_one(Columns.USER_ID, users, named[-1], sessions)
    return {Columns.USER_ID: pc.coalesce(users, visitor_ids(sessions)), Columns.SESSION_ID: sessions}


def _feedback(rows: Checked) -> dict[str, pa.Array]:
    event_types = rows.identifier("event_type")
    return {
        "event_id": rows.identifier("event_id", required=False),
        **person(rows),
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
        **person(rows),
        "query": rows.text("query"),
        "item_ids": rows.text_list("item_ids", required=True),
        "propensities": rows.probability_list("propensities", as_long_as="item_ids"),
        "model_version": rows.text("model_version"),
        "placement": rows.identifier("placement", required=False),
        "rules": rows.name_list("rules", as_long_as="item_ids"),
        "shown_at": rows.time("shown_at"),
    }


LAYOUTS = {
    layout.table: layout
    for layout in (
        Layout(
            "feedback",
            required=("item_id", "event_type", "occurred_at"),
            people=(Columns.USER_ID, *SESSIONS),
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
            remarks=frozenset({"about"}),  # of `recsys variants propose`
            numbers=frozenset({"rest_days", "available_from", "available_until"}),
        ),
        Layout("users", required=("user_id",), optional=("consent", "attributes"), check=_users),
        Layout(
            "impressions",
            required=("impression_id", "item_ids", "shown_at"),
            people=(Columns.USER_ID, *SESSIONS),
            optional=("query", "propensities", "model_version", "placement", "rules"),
            check=_impressions,
            numbers=frozenset({"shown_at"}),
            time="shown_at",
        ),
    )
}
