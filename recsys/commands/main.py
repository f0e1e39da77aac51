"""The `recsys` command. Each room brings its own sub-commands; heavy libraries load when one runs."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, SecretStr, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recsys.commands import ingest as warehouse_commands
from recsys.commands import models as registry_commands
from recsys.commands import quarantine as validation_commands
from recsys.commands import recommend as publishing_commands
from recsys.commands import reconcile as reconcile_commands
from recsys.commands import simulate as simulation_commands
from recsys.commands import stack as local_commands
from recsys.commands import upkeep as upkeep_commands
from recsys.errors import RecsysError
from recsys.settings import load_settings

EXIT_ERROR = 2

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A language-model recommender that keeps learning from its users' feedback.",
)

app.command()(local_commands.up)
app.command()(local_commands.status)
app.command()(local_commands.down)
app.add_typer(warehouse_commands.app, name="ingest")
app.command()(warehouse_commands.forget)
app.command()(upkeep_commands.after_restore)
app.command()(upkeep_commands.rotate_keys)
app.add_typer(validation_commands.app, name="quarantine")
app.command()(reconcile_commands.reconcile)
app.command()(publishing_commands.recommend)
app.command()(simulation_commands.simulate)
app.registered_commands += registry_commands.app.registered_commands


def main() -> None:
    """Run the command; an error of ours ends as one plain message."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except RecsysError as error:
        message = str(error)
    except ValidationError as error:
        message = "a setting is wrong (`recsys settings` lists them all):\n" + "\n".join(
            f"  RECSYS_{'__'.join(str(part) for part in wrong['loc']).upper()}: {wrong['msg']}"
            for wrong in error.errors()
        )
    else:
        return
    Console(stderr=True).print(f"[bold red]Error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(EXIT_ERROR)


@app.command()
def migrate(
    revision: Annotated[str, typer.Option(help="Migrate to this revision instead of the newest.")] = "head",
) -> None:
    """Bring the warehouse's schema and analytics views up to date."""
    from recsys.warehouse.analytics import install_analytics
    from recsys.warehouse.engine import connect
    from recsys.warehouse.migrate import upgrade_warehouse

    url = load_settings().require_warehouse_url()
    engine = connect(url)
    upgrade_warehouse(url, revision)
    if revision == "head":
        install_analytics(engine)
    typer.echo(f"The warehouse is at revision {revision}.")


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of MovieLens files; default: MovieLens-100K from the package index."),
    ] = None,
) -> None:
    """Run the whole loop on real feedback: a night, an hour, and a report."""
    from recsys.local.packages import require_packages

    require_packages()
    from recsys.commands.demo import run_demo

    # Where no terminal says how wide it is, the report needs some room.
    run_demo(Console(width=None if sys.stdout.isatty() else 120), data)


@app.command()
def settings() -> None:
    """List every setting: its environment variable, its value and what it means."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("environment variable", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for name, value, meaning in _flatten(load_settings(), "RECSYS_"):
        table.add_row(name, value, meaning)
    Console().print(table)


def _flatten(section: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _flatten(value, f"{prefix}{name.upper()}__")
        else:
            shown = "(set)" if isinstance(value, SecretStr) else "-" if value is None else str(value)
            yield f"{prefix}{name.upper()}", shown, field.description or ""


if __name__ == "__main__":
    main()
