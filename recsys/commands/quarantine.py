"""`recsys quarantine`: look at the rows that broke a rule, let them out again or settle them."""

import getpass
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from recsys.validation.quarantine import Status

app = typer.Typer(
    no_args_is_help=True, help="Look at feedback that broke a rule; let it back in, or settle it."
)


class _Status(StrEnum):
    HELD = "held"
    RELEASED = "released"
    DISCARDED = "discarded"
    ALL = "all"


_AS_LISTED = "id of the row, as `recsys quarantine list` shows it"

Id = Annotated[int, typer.Argument(metavar="ID", help=_AS_LISTED, show_default=False)]
Ids = Annotated[
    list[int], typer.Argument(metavar="ID", help=f"{_AS_LISTED}; one or more", show_default=False)
]


@app.command("list")
def list_rows(
    status: Annotated[_Status, typer.Option(help="only rows of this status")] = _Status.HELD,
    reason: Annotated[
        str | None, typer.Option(help="only rows that broke this rule, such as unknown_item; default: any")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="rows to show, latest first")] = 50,
) -> None:
    """List rows in quarantine with their reasons, without saying whose they are."""
    from rich.console import Console
    from rich.table import Table

    from recsys.validation.quarantine import list_quarantined

    wanted = None if status is _Status.ALL else cast("Status", status.value)
    rows = list_quarantined(_engine(), status=wanted, reason=reason, limit=limit)
    table = Table("id", "window", "reasons", "type", "item", "value", "occurred at", "status")
    for row in rows:
        table.add_row(
            str(row.quarantine_id),
            str(row.window_id),
            ", ".join(row.reasons),
            *(_short(row.feedback.get(name)) for name in ("event_type", "item_id", "value", "occurred_at")),
            row.status,
        )
    Console().print(table if rows else "No such rows in quarantine.")


@app.command()
def show(quarantine_id: Id) -> None:
    """Show one row as it arrived, user id and comment included."""
    from recsys.validation.quarantine import show_quarantined

    row = show_quarantined(_engine(), quarantine_id)
    typer.echo(f"reasons: {', '.join(row.reasons)}")
    settled = f" by {row.settled_by} at {row.settled_at:%Y-%m-%d %H:%M %Z}" if row.settled_at else ""
    typer.echo(f"status: {row.status}{settled}")
    typer.echo(json.dumps(row.feedback, indent=2, ensure_ascii=False))


@app.command()
def release(quarantine_ids: Ids) -> None:
    """Let rows back into the feedback as they are: in the next window, where no rule judges them again."""
    from recsys.validation.quarantine import release as release_row

    engine = _engine()
    for quarantine_id in quarantine_ids:
        release_row(engine, quarantine_id, settled_by=getpass.getuser())
        typer.echo(f"released {quarantine_id}; it is in the next window")


@app.command()
def discard(quarantine_ids: Ids) -> None:
    """Settle rows as never to be used; they stay on record."""
    from recsys.validation.quarantine import discard as discard_row

    engine = _engine()
    for quarantine_id in quarantine_ids:
        discard_row(engine, quarantine_id, settled_by=getpass.getuser())
        typer.echo(f"discarded {quarantine_id}")


def _engine() -> "sa.Engine":
    from recsys.settings import load_settings
    from recsys.warehouse.engine import connect

    return connect(load_settings().require_warehouse_url())


def _short(value: object, width: int = 30) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= width else text[: width - 1] + "…"
