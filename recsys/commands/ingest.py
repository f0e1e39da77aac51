"""`recsys ingest` and `recsys forget`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from recsys.warehouse.ingest import IngestSummary, IngestTable

EXIT_ALL_LOADED = 0
EXIT_SOME_REJECTED = 1
EXIT_NOTHING_READ = 2  # as for every error of `recsys`

app = typer.Typer(no_args_is_help=True, help="Load items, users, feedback or impressions from a file.")


class _NewUsers(StrEnum):
    REGISTER = "register"
    LEAVE = "leave"


File = Annotated[
    Path, typer.Argument(help="CSV, TSV, JSONL (each may be .gz) or Parquet", show_default=False)
]
Rejects = Annotated[
    Path | None, typer.Option(help="where lines that cannot be loaded go; default: FILE.rejected.jsonl")
]
TimeZone = Annotated[
    str | None,
    typer.Option(help="zone of times that name none, such as Europe/Paris; else they are rejected"),
]
Consent = Annotated[
    bool, typer.Option("--consent/--no-consent", help="consent to training of users who are added")
]


@app.command()
def items(file: File, reject_file: Rejects = None) -> None:
    """Add items or change them: item_id, title, description, attributes (JSON object), available."""
    _ingest("items", file, reject_file)


@app.command()
def users(file: File, reject_file: Rejects = None, consent: Consent = True) -> None:
    """Add users or change them: user_id, consent, attributes (JSON object)."""
    _ingest("users", file, reject_file, consent=consent)


@app.command()
def feedback(
    file: File,
    reject_file: Rejects = None,
    new_users: Annotated[
        _NewUsers, typer.Option(help="users not seen before: add them, or leave it to your application")
    ] = _NewUsers.REGISTER,
    consent: Consent = True,
    assume_timezone: TimeZone = None,
) -> None:
    """Add feedback: user_id, item_id, event_type, occurred_at; event_id, value, comment, impression_id."""
    _ingest(
        "feedback",
        file,
        reject_file,
        new_users=new_users.value,
        consent=consent,
        assume_timezone=assume_timezone,
    )


@app.command()
def impressions(file: File, reject_file: Rejects = None, assume_timezone: TimeZone = None) -> None:
    """Add slates shown: impression_id, user_id, item_ids, shown_at; query, propensities, model_version."""
    _ingest("impressions", file, reject_file, assume_timezone=assume_timezone)


def forget(
    user: Annotated[str, typer.Argument(metavar="USER", help="user id", show_default=False)],
) -> None:
    """Erase a user from tables, recommendations, vectors, snapshots and evaluations; print the receipt.

    This cannot be undone. Nothing is trained on the user from now on; what the model has learned is gone
    with the next full fine-tune. The receipt counts what was removed and does not say whose it was.
    """
    import json
    from functools import partial

    from recsys.registry.evaluation_files import erase_from_evaluations
    from recsys.settings import load_settings
    from recsys.upkeep.erasure import erase_requested, request_erasure
    from recsys.warehouse.engine import connect

    settings = load_settings()
    engine = connect(settings.require_warehouse_url())
    request_id = request_erasure(engine, user)
    done = erase_requested(
        engine, settings.snapshots, partial(erase_from_evaluations, settings), settings.runs
    )
    receipts = {receipt.request_id: receipt for receipt in done}
    if request_id in receipts:
        typer.echo(json.dumps(receipts[request_id].to_dict(), indent=2))
    else:
        typer.echo(
            "The user is removed from all tables. A snapshot is being written or a fine-tune keeps events on "
            "disk that may still be the user's, or MLflow is away: warehouse_housekeeping, or this command "
            "again, completes the request."
        )


def _ingest(table: str, file: Path, reject_file: Path | None, **options: object) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from recsys.settings import load_settings
    from recsys.warehouse.engine import connect
    from recsys.warehouse.ingest import ingest_file

    engine = connect(load_settings().require_warehouse_url())
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(f"{table} from {file.name}", total=None)
        summary = ingest_file(
            engine,
            cast("IngestTable", table),
            file,
            reject_file=reject_file,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **options,  # type: ignore[arg-type]
        )
    engine.dispose()
    for line in _lines(summary):
        typer.echo(line)
    sys.exit(_exit_code(summary.read, summary.rejected))


def _exit_code(read: int, rejected: int) -> int:
    if not rejected:
        return EXIT_ALL_LOADED
    return EXIT_NOTHING_READ if rejected == read else EXIT_SOME_REJECTED


def _lines(summary: "IngestSummary") -> list[str]:
    rate = summary.read / summary.seconds if summary.seconds else 0.0
    lines = [
        f"{summary.path}: {summary.read:,} lines in {summary.seconds:.1f} s ({rate:,.0f}/s)",
        f"  inserted    {summary.inserted:>12,}",
    ]
    if summary.table in ("items", "users"):
        lines.append(f"  updated     {summary.updated:>12,}")
    lines += [
        f"  known before{summary.duplicates:>12,}",
        f"  rejected    {summary.rejected:>12,}"
        + (f"  see {summary.reject_file}" if summary.rejected else ""),
    ]
    if summary.new_users:
        consent = "with" if summary.consent else "without"
        lines.append(f"  new users   {summary.new_users:>12,}  registered {consent} consent to training")
    if summary.unknown_columns:
        lines.append(f"  columns left out: {', '.join(summary.unknown_columns)}")
    return lines
