"""`recsys champion`, `history`, `compare`, `promote` and `rollback`."""

import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from recsys.errors import NothingToDoError, RecsysError, RegistryError
from recsys.settings import load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from recsys.promotion.ledger import LedgerEntry
    from recsys.settings import Settings

app = typer.Typer(help="Look at the champion and change it by hand.")

_Actor = Annotated[
    str | None, typer.Option("--actor", help="Who decides; default: the user of this machine.")
]
_Publish = Annotated[
    bool,
    typer.Option(
        "--publish/--no-publish",
        help="Publish its recommendations and vectors at once, or leave them to the next publication.",
    ),
]


@app.command()
def champion() -> None:
    """Show the version that is served, since when and why; exit code 1 when there is none."""
    from recsys.promotion import ledger

    _, engine = _connect()
    current = ledger.champion(engine)
    if current is None:
        typer.echo("There is no champion yet: run nightly_training.")
        raise typer.Exit(1)
    typer.echo(
        f"Version {current.model_version} is champion since {current.since:%Y-%m-%d %H:%M:%S %Z}, "
        f"{f'after version {current.previous}' if current.previous else 'the first one'} "
        f"({current.reason}, by {current.actor})."
    )


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="Decisions to show.")] = 20,
) -> None:
    """List the latest decisions on model versions, by the gate or a person, newest first."""
    from recsys.promotion import ledger

    _, engine = _connect()
    console = Console()
    for entry in ledger.history(engine, limit):
        before = f", champion before: {entry.previous_champion}" if entry.previous_champion else ""
        console.print(
            f"{entry.decided_at:%Y-%m-%d %H:%M:%S %Z}  [bold]{entry.action} version {entry.model_version}[/]"
            f"{before}  ({entry.reason})",
            highlight=False,
        )
        # A person's reason may lack the full stop.
        told = f"{entry.explanation.rstrip('. ')}. By {entry.actor}."
        console.print(Padding(escape(told), (0, 0, 1, 4)), highlight=False)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Model version to make champion.")],
    reason: Annotated[str, typer.Option(help="Why; others read it in the ledger.")],
    actor: _Actor = None,
    publish: _Publish = True,
) -> None:
    """Make a version champion without asking the gate, and publish it."""
    from recsys.promotion import ledger
    from recsys.promotion.promote import promote as promote_version
    from recsys.registry.versions import download_checkpoint

    settings, engine = _connect()
    _require_reason(reason)
    # No gate has loaded it: a version whose files are broken must not become champion.
    download_checkpoint(settings, version)
    current = ledger.champion(engine)
    if current is not None and current.model_version == version:
        raise RegistryError(f"version {version} is champion already")
    entry = promote_version(
        engine,
        settings,
        version,
        current.model_version if current else None,
        reason="promoted_by_person",
        explanation=reason,
        actor=actor or getpass.getuser(),
    )
    _follow(engine, settings, entry, publish)


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; others read it in the ledger.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="Version to go back to, a former champion; default: the one that the champion replaced."
        ),
    ] = None,
    actor: _Actor = None,
    publish: _Publish = True,
) -> None:
    """Make an earlier champion the champion again, and publish it.

    Its files are checked before anything changes. Going back twice goes back two versions.
    """
    from recsys.promotion.roll_back import roll_back

    settings, engine = _connect()
    entry = roll_back(engine, settings, reason=reason, to=to, actor=actor or getpass.getuser())
    _follow(engine, settings, entry, publish)


@app.command()
def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="Model version, as MLflow numbers it.", show_default=False)
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="The other; differences are B less A.", show_default=False)
    ],
    evaluate: Annotated[
        bool,
        typer.Option(help="Where no run has ranked the same feedback with both, do it now; takes minutes."),
    ] = False,
) -> None:
    """Show two model versions side by side: origin, metrics with their difference, settings that differ."""
    from recsys.commands.comparison_tables import comparison_tables
    from recsys.promotion.compare import compare_versions

    settings, engine = _connect()
    console = Console(width=None if sys.stdout.isatty() else 120)
    for part in comparison_tables(compare_versions(engine, settings, first, second, evaluate=evaluate)):
        console.print(part, highlight=False)


def _connect() -> "tuple[Settings, sa.Engine]":
    from recsys.warehouse.engine import connect

    settings = load_settings()
    return settings, connect(settings.require_warehouse_url())


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise RegistryError("a change of the champion needs a reason: others will read it in the ledger")


def _follow(engine: "sa.Engine", settings: "Settings", entry: "LedgerEntry", publish: bool) -> None:
    """Let users see the new champion."""
    from recsys.publishing.publish import publish as publish_champion

    version = entry.model_version
    if not publish:
        typer.echo(f"Version {version} is champion. Users see it after publish_recommendations has run.")
        return
    typer.echo(f"Version {version} is champion. Publishing its recommendations ...")
    try:
        summary = publish_champion(engine, settings, run_key=f"ledger/{entry.ledger_id}")
    except NothingToDoError as nothing:
        typer.echo(f"Nothing needs to be published: {nothing}.")
        return
    except RecsysError as error:
        raise RegistryError(
            f"version {version} is champion but not published yet: {error}; then trigger "
            "publish_recommendations"
        ) from error
    typer.echo(
        f"Recommendations of {summary.users} users and vectors of {summary.items} items are those of "
        f"version {summary.model_version} now ({summary.seconds:.0f} s)."
    )
