"""`recsys ingest`: load files into the warehouse."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from recsys.commands.engine import warehouse_engine
from recsys.settings import load_settings

if TYPE_CHECKING:
    from recsys.warehouse.ingest import IngestSummary, IngestTable

EXIT_ALL_LOADED = 0
EXIT_SOME_REJECTED = 1
EXIT_NOTHING_LOADED = 2  # the code of every error of `recsys`


class _NewUsers(StrEnum):
    REGISTER = "register"
    LEAVE = "leave"


class _OtherColumns(StrEnum):
    IGNORE = "ignore"
    ATTRIBUTES = "attributes"


class _TimeUnit(StrEnum):
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    MICROSECONDS = "microseconds"


File = Annotated[
    Path, typer.Argument(help="CSV, TSV or JSONL file (may be .gz), or Parquet file.", show_default=False)
]
Rejects = Annotated[Path | None, typer.Option(help="File for rejected lines. Default: FILE.rejected.jsonl.")]
TimeZone = Annotated[
    str | None,
    typer.Option(
        help="Time zone for times that have none, such as Europe/Paris. Without it these lines are rejected."
    ),
]
Unit = Annotated[_TimeUnit, typer.Option(help="Unit of times that are numbers, counted since 1970.")]
Consent = Annotated[
    bool,
    typer.Option("--consent/--no-consent", help="Whether newly added users consent to training."),
]

OtherColumns = Annotated[
    _OtherColumns,
    typer.Option(
        help="Ignore columns that are not listed above, or store them as attributes; a|b is a list."
    ),
]


def items(
    file: File,
    reject_file: Rejects = None,
    other_columns: OtherColumns = _OtherColumns.IGNORE,
    assume_timezone: TimeZone = None,
    time_unit: Unit = _TimeUnit.SECONDS,
) -> None:
    """Add or update items.

    Columns: item_id, title, description, attributes (a JSON object), available, available_from,
    available_until (exclusive), rest_days (days after an outcome until the item may be recommended again),
    variant_of (group of items that are one thing).
    """
    _ingest(
        "items",
        file,
        reject_file,
        other_columns=other_columns.value,
        assume_timezone=assume_timezone,
        time_unit=time_unit.value,
    )


def users(
    file: File,
    reject_file: Rejects = None,
    consent: Consent = True,
    other_columns: OtherColumns = _OtherColumns.IGNORE,
) -> None:
    """Add or update users.

    Columns: user_id, consent, attributes (a JSON object).
    """
    _ingest("users", file, reject_file, consent=consent, other_columns=other_columns.value)


def feedback(
    file: File,
    reject_file: Rejects = None,
    new_users: Annotated[
        _NewUsers,
        typer.Option(help="Add users that are not in the warehouse, or leave that to your application."),
    ] = _NewUsers.REGISTER,
    consent: Consent = True,
    assume_timezone: TimeZone = None,
    time_unit: Unit = _TimeUnit.SECONDS,
) -> None:
    """Add feedback events.

    Required columns: user_id, item_id, event_type, occurred_at. Optional columns: event_id, value,
    comment, impression_id. Rows of people who are not registered have a session_id, visitor_id or
    anonymous_id instead of a user_id.
    """
    _ingest(
        "feedback",
        file,
        reject_file,
        new_users=new_users.value,
        consent=consent,
        assume_timezone=assume_timezone,
        time_unit=time_unit.value,
    )


def impressions(
    file: File,
    reject_file: Rejects = None,
    assume_timezone: TimeZone = None,
    time_unit: Unit = _TimeUnit.SECONDS,
) -> None:
    """Add impressions: the slates that were shown to users.

    Required columns: impression_id, user_id, item_ids, shown_at. Optional columns: query, propensities,
    model_version, placement, rules. Slates of people who are not registered have a session_id, visitor_id
    or anonymous_id instead of a user_id.
    """
    _ingest("impressions", file, reject_file, assume_timezone=assume_timezone, time_unit=time_unit.value)


def _ingest(table: str, file: Path, reject_file: Path | None, **options: object) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from recsys.warehouse.ingest import ingest_file

    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    settings = load_settings()
    with warehouse_engine(settings) as engine, progress as bar:
        task = bar.add_task(f"{table} from {file.name}", total=None)
        summary = ingest_file(
            engine,
            cast("IngestTable", table),
            file,
            reject_file=reject_file,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            tombstone_keys=settings.tombstone_keys(),
            **options,  # type: ignore[arg-type]
        )
    for line in summary_lines(summary):
        typer.echo(line)
    sys.exit(_exit_code(summary.read, summary.rejected))


def _exit_code(read: int, rejected: int) -> int:
    if not rejected:
        return EXIT_ALL_LOADED
    return EXIT_NOTHING_LOADED if rejected == read else EXIT_SOME_REJECTED


def summary_lines(summary: "IngestSummary") -> list[str]:
    """Return what is printed after a load."""
    rate = summary.read / summary.seconds if summary.seconds else 0.0
    lines = [
        f"{summary.path}: {summary.read:,} lines in {summary.seconds:.1f} s ({rate:,.0f}/s)",
        f"  inserted    {summary.inserted:>12,}",
    ]
    if summary.table in ("items", "users"):
        lines.append(f"  updated     {summary.updated:>12,}")
    lines += [
        f"  duplicates  {summary.duplicates:>12,}"
        + (
            f"  {summary.in_quarantine:,} of them in quarantine, see recsys quarantine list"
            if summary.in_quarantine
            else ""
        ),
        f"  rejected    {summary.rejected:>12,}"
        + (f"  see {summary.reject_file}" if summary.rejected else ""),
    ]
    if summary.of_erased_users:
        lines.append(
            f"    of users who were erased on request: {summary.of_erased_users:,}; `recsys readmit USER` "
            "lets one who returns be loaded again"
        )
    if summary.new_users:
        consent = "with" if summary.consent else "without"
        lines.append(f"  new users   {summary.new_users:>12,}  registered {consent} consent to training")
    if summary.changed_ids:
        before, after = summary.changed_id or (None, None)
        lines.append(
            f"  changed ids {summary.changed_ids:>12,}"
            + (f"  such as {before!r}, read as {after!r}" if before else "  without spaces around them or .0")
        )
    if summary.unknown_columns:
        lines.append(f"  ignored columns: {', '.join(summary.unknown_columns)}")
    return lines
