"""`recsys champion`, `history`, `compare`, `promote` and `rollback`."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from recsys.commands.engine import warehouse_engine
from recsys.errors import NothingToDoError, RecsysError, RegistryError
from recsys.settings import load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from recsys.promotion.ledger import LedgerEntry
    from recsys.settings import Settings

_WIDTH_WITHOUT_TERMINAL = 120  # columns; comparison tables do not fit into rich's default of 80

_Reason = Annotated[str, typer.Option(help="Why. It is recorded in the ledger.")]
_Actor = Annotated[
    str | None, typer.Option("--actor", help="Who decided. Default: your user name on this machine.")
]
_Publish = Annotated[
    bool,
    typer.Option(
        "--publish/--no-publish",
        help="Publish its recommendations and vectors now, or leave that to publish_recommendations.",
    ),
]


def champion() -> None:
    """Show which version serves users, since when and why. The exit code is 1 if there is none."""
    from recsys.promotion import ledger

    with warehouse_engine(load_settings()) as engine:
        current = ledger.champion(engine)
    if current is None:
        typer.echo("There is no champion yet. Run nightly_training.")
        raise typer.Exit(1)
    typer.echo(
        f"Version {current.model_version} has been champion since {current.since:%Y-%m-%d %H:%M:%S %Z}. "
        f"{f'It replaced version {current.previous}' if current.previous else 'It is the first champion'} "
        f"({current.reason}, by {current.actor})."
    )


def history(
    limit: Annotated[int, typer.Option(min=1, help="Number of decisions to show.")] = 20,
) -> None:
    """List the latest decisions about model versions, made by the gate or by people, newest first."""
    from recsys.promotion import ledger

    with warehouse_engine(load_settings()) as engine:
        entries = ledger.history(engine, limit)
    console = Console()
    for entry in entries:
        previous = f", previous champion: {entry.previous_champion}" if entry.previous_champion else ""
        console.print(
            f"{entry.decided_at:%Y-%m-%d %H:%M:%S %Z}  [bold]{entry.action} version {entry.model_version}[/]"
            f"{previous}  ({entry.reason})",
            highlight=False,
        )
        # A reason written by a person may lack the full stop.
        details = f"{entry.explanation.rstrip('. ')}. By {entry.actor}."
        console.print(Padding(escape(details), (0, 0, 1, 4)), highlight=False)


def promote(
    version: Annotated[str, typer.Argument(help="Model version to make champion.", show_default=False)],
    reason: _Reason,
    actor: _Actor = None,
    publish: _Publish = True,
) -> None:
    """Make a version champion without the gate, and publish it."""
    from recsys.promotion import ledger
    from recsys.promotion.promote import promote as promote_version
    from recsys.registry.versions import download_checkpoint

    settings = load_settings()
    with warehouse_engine(settings) as engine:
        if not reason.strip():
            raise RegistryError("a promotion needs a reason; it is recorded in the ledger (--reason)")
        # The gate has not loaded it, and a version with broken files must not become champion.
        download_checkpoint(settings, version)
        current = ledger.champion(engine)
        if current is not None and current.model_version == version:
            raise RegistryError(f"version {version} is already the champion")
        entry = promote_version(
            engine,
            settings,
            version,
            current.model_version if current else None,
            reason="promoted_by_person",
            explanation=reason,
            actor=actor or getpass.getuser(),
        )
        _publish_champion(engine, settings, entry, publish)


def download(
    version: Annotated[str, typer.Argument(help="Model version.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="New folder for its files.", show_default=False)],
) -> None:
    """Download a version and check its files, to serve it with `mlflow models serve --model-uri FOLDER`."""
    from recsys.registry.versions import download_model

    download_model(load_settings(), version, folder)
    Console().print(f"{folder} holds version {version}, as it was registered.", soft_wrap=True)


def rollback(
    reason: _Reason,
    to: Annotated[
        str | None,
        typer.Option(help="Former champion to go back to. Default: the one before the current champion."),
    ] = None,
    actor: _Actor = None,
    publish: _Publish = True,
) -> None:
    """Make a former champion the champion again, and publish it.

    Its files are checked before anything changes. Two rollbacks in a row go back two versions.
    """
    from recsys.promotion.roll_back import roll_back

    settings = load_settings()
    with warehouse_engine(settings) as engine:
        entry = roll_back(engine, settings, reason=reason, to=to, actor=actor or getpass.getuser())
        _publish_champion(engine, settings, entry, publish)


def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="Number of a model version in MLflow.", show_default=False)
    ],
    second: Annotated[
        str,
        typer.Argument(metavar="B", help="The other version. Differences are B minus A.", show_default=False),
    ],
    evaluate: Annotated[
        bool,
        typer.Option(
            help="If no run has evaluated both versions on the same feedback, do it now. Takes minutes."
        ),
    ] = False,
) -> None:
    """Compare two model versions: origin, metrics with their differences, and settings that differ."""
    from recsys.commands.comparison_tables import comparison_tables
    from recsys.promotion.compare import compare_versions

    settings = load_settings()
    with warehouse_engine(settings) as engine:
        compared = compare_versions(engine, settings, first, second, evaluate=evaluate)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    for part in comparison_tables(compared):
        console.print(part, highlight=False)


def _publish_champion(engine: "sa.Engine", settings: "Settings", entry: "LedgerEntry", publish: bool) -> None:
    """Publish the new champion, or say what will publish it."""
    from recsys.publishing.publish import publish as publish_now

    version = entry.model_version
    if not publish:
        typer.echo(f"Version {version} is champion. Users see it after publish_recommendations has run.")
        return
    typer.echo(f"Version {version} is champion. Publishing its recommendations ...")
    try:
        summary = publish_now(engine, settings, run_key=f"ledger/{entry.ledger_id}")
    except NothingToDoError as nothing:
        typer.echo(f"There is nothing to publish: {nothing}.")
        return
    except RecsysError as error:
        raise RegistryError(
            f"version {version} is champion, but publishing failed: {error}. Fix that and trigger "
            "publish_recommendations"
        ) from error
    typer.echo(
        f"Published recommendations for {summary.users} users and vectors of {summary.items} items from "
        f"version {summary.model_version} ({summary.seconds:.0f} s)."
    )
