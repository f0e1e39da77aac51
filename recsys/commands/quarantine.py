"""`recsys quarantine`: inspect rows that broke a rule, release them or discard them."""

import getpass
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from recsys.commands.engine import warehouse_engine
from recsys.settings import load_settings

if TYPE_CHECKING:
    from recsys.validation.quarantine import Status


class _Status(StrEnum):
    HELD = "held"
    RELEASED = "released"
    DISCARDED = "discarded"
    ALL = "all"


_AS_LISTED = "Id of the row, as shown by `recsys quarantine list`"

Id = Annotated[int, typer.Argument(metavar="ID", help=f"{_AS_LISTED}.", show_default=False)]
Ids = Annotated[
    list[int], typer.Argument(metavar="ID", help=f"{_AS_LISTED}; one or more.", show_default=False)
]


def list_rows(
    status: Annotated[_Status, typer.Option(help="Show only rows with this status.")] = _Status.HELD,
    reason: Annotated[
        str | None, typer.Option(help="Show only rows that broke this rule, such as unknown_item.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of rows to show, newest first.")] = 50,
) -> None:
    """List quarantined rows with the rules they broke, without user ids or comments."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from recsys.validation.quarantine import list_quarantined

    wanted = None if status is _Status.ALL else cast("Status", status.value)
    with warehouse_engine(load_settings()) as engine:
        rows = list_quarantined(engine, status=wanted, reason=reason, limit=limit)
    table = Table("id", "window", "reasons", "type", "item", "value", "occurred at", "status")
    for row in rows:
        table.add_row(
            str(row.quarantine_id),
            str(row.window_id),
            ", ".join(row.reasons),
            *(
                escape(_short(row.feedback.get(name)))
                for name in ("event_type", "item_id", "value", "occurred_at")
            ),
            row.status,
        )
    Console().print(table if rows else "No such rows in quarantine.")


def show(quarantine_id: Id) -> None:
    """Show one row as it arrived, including the user id and the comment."""
    from recsys.validation.quarantine import show_quarantined

    with warehouse_engine(load_settings()) as engine:
        row = show_quarantined(engine, quarantine_id)
    typer.echo(f"reasons: {', '.join(row.reasons)}")
    settled = f" by {row.settled_by} at {row.settled_at:%Y-%m-%d %H:%M %Z}" if row.settled_at else ""
    typer.echo(f"status: {row.status}{settled}")
    typer.echo(json.dumps(row.feedback, indent=2, ensure_ascii=False))


def release(
    quarantine_ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", help=f"{_AS_LISTED}.", show_default=False)
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Release all rows of this rule, such as unknown_item, instead of rows by id."),
    ] = None,
) -> None:
    """Return rows to the feedback. They join the next window.

    By id, rows return as they are and are not validated again. With --reason unknown_item (unknown_user,
    unknown_event_type), rows whose item, user and type are known by now return and are validated again.
    With another --reason, rows that broke only this rule return as they are.
    """
    from recsys.validation.quarantine import release as release_row
    from recsys.validation.quarantine import release_by_reason

    if bool(quarantine_ids) == bool(reason):
        raise typer.BadParameter("give ids of rows, or --reason")
    with warehouse_engine(load_settings()) as engine:
        if reason:
            released, held = release_by_reason(engine, reason, settled_by=getpass.getuser())
            typer.echo(f"released {released:,} rows; {held:,} with the reason {reason} stay in quarantine")
        for quarantine_id in quarantine_ids or []:
            release_row(engine, quarantine_id, settled_by=getpass.getuser())
            typer.echo(f"released {quarantine_id}; it will be in the next window")


def discard(quarantine_ids: Ids) -> None:
    """Mark rows as never to be used. They stay in the quarantine table."""
    from recsys.validation.quarantine import discard as discard_row

    with warehouse_engine(load_settings()) as engine:
        for quarantine_id in quarantine_ids:
            discard_row(engine, quarantine_id, settled_by=getpass.getuser())
            typer.echo(f"discarded {quarantine_id}")


def impressions(
    release: Annotated[
        str | None, typer.Option(metavar="RULE", help="Release the slates that broke only this rule.")
    ] = None,
) -> None:
    """Count slates in quarantine by the rule that they broke, or release them.

    Nothing learns from them while they are there. Slates of unknown items, or of an unknown version, are
    released if these are known by now; others as they are.
    """
    from recsys.validation.impressions import count_held, release_impressions

    with warehouse_engine(load_settings()) as engine:
        if release:
            released = release_impressions(engine, release, settled_by=getpass.getuser())
            typer.echo(f"released {released:,} slates")
        held = count_held(engine)
    for rule, slates in held.items():
        typer.echo(f"{slates:>12,}  {rule}")
    if not held:
        typer.echo("No slates in quarantine.")


def _short(value: object, width: int = 30) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= width else text[: width - 1] + "…"
