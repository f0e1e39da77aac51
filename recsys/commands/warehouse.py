"""`recsys migrate` and `recsys reconcile`."""

from typing import Annotated

import typer

from recsys.commands.engine import warehouse_engine
from recsys.errors import ConfigurationError
from recsys.settings import load_settings

EXIT_MISMATCH = 1


def migrate(
    revision: Annotated[
        str, typer.Option(help="Revision to migrate to. Default: the newest.", show_default=False)
    ] = "head",
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Then let events mean what they do in a shop, a newsroom, a video or a music service: shop, "
            "newsroom, video or music. See docs/events.md.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Migrate the warehouse's tables, analytics views and reading functions to the newest revision."""
    from recsys.serving.install import install_serving
    from recsys.warehouse.analytics import install_analytics
    from recsys.warehouse.migrate import explained_refusals, upgrade_warehouse
    from recsys.warehouse.recipes import apply_recipe, check_recipe
    from recsys.warehouse.server_log import warn_of_values_in_log

    settings = load_settings()
    if recipe is not None:
        check_recipe(recipe)
        if revision != "head":
            raise ConfigurationError(
                f"--recipe {recipe} needs the newest tables; leave out --revision {revision}"
            )
    with warehouse_engine(settings) as engine:
        upgrade_warehouse(settings.require_warehouse_url(), revision)
        if revision == "head":
            with explained_refusals():
                install_analytics(engine)
                install_serving(engine)
        if recipe is not None:
            apply_recipe(engine, recipe)
    warn_of_values_in_log(settings.require_warehouse_url())
    typer.echo(f"The warehouse is at revision {revision}.")
    if recipe is not None:
        typer.echo(
            f"Its event types follow the recipe {recipe}: lists from the next publication, training from its "
            "next window."
        )


def reconcile(
    consumer: Annotated[
        str | None,
        typer.Option(help="Show only windows of this DAG, such as nightly_training. Default: all."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of windows to show, newest first.")] = 20,
) -> None:
    """Recount the rows of recent windows. The exit code is 1 if a count does not match.

    A window is the feedback that one DAG run processed. It is balanced when arrived = valid + quarantined +
    duplicates + erased. A late row happened before an earlier window closed. A row is out of order if it
    happened before a row that arrived earlier in the same window.
    """
    from rich.console import Console
    from rich.table import Table

    from recsys.warehouse.windows import latest_windows, reconcile_window

    counts = ("arrived", "valid", "quarantined", "duplicates", "erased")
    table = Table("window", "consumer", "opened at", "run")
    for name in counts:
        table.add_column(name, justify="right")
    table.add_column("balanced")
    arrivals = ("late", "out_of_order")
    for name in arrivals:
        table.add_column(name.replace("_", " "), justify="right")
    unbalanced = []
    with warehouse_engine(load_settings()) as engine:
        for window in latest_windows(engine, consumer, limit):
            found = reconcile_window(engine, window.window_id)
            if not found.balanced:
                unbalanced.append(str(window.window_id))
            table.add_row(
                str(window.window_id),
                window.consumer,
                f"{window.opened_at:%Y-%m-%d %H:%M}",
                window.run_key,
                *(f"{getattr(found, name):,}" for name in counts),
                "yes" if found.balanced else "no",
                *(f"{getattr(found, name):,}" for name in arrivals),
            )
    Console().print(table if table.row_count else "There are no windows yet.")
    if unbalanced:
        typer.echo(f"Row counts do not match in window {', '.join(unbalanced)}.", err=True)
        raise typer.Exit(EXIT_MISMATCH)
