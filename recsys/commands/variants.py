"""`recsys variants`: find items that are one thing."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.commands.engine import warehouse_engine
from recsys.settings import load_settings


def propose(
    output: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("variants.csv"),
) -> None:
    """Propose groups of items with equal title and attributes, of which a list would show one.

    Check the file: remove the lines of items that are not the same thing, or give such an item its own id as
    variant_of, and it is not proposed again. Then load it with `recsys ingest items`.
    """
    from recsys.warehouse.variants import propose_variants

    with warehouse_engine(load_settings()) as engine:
        found = propose_variants(engine, output)
    if not found.items:
        typer.echo("No two items have the same title and attributes and no group yet.")
        return
    typer.echo(
        f"{output}: {found.items:,} items look like {found.groups:,} things. Check the file, then run "
        f"`recsys ingest items {output}`."
    )
