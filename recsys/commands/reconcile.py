"""`recsys reconcile`."""

from typing import Annotated

import typer

EXIT_MISMATCH = 1


def reconcile(
    consumer: Annotated[
        str | None, typer.Option(help="only windows of this DAG, such as nightly_training; default: of all")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="windows to show, latest first")] = 20,
) -> None:
    """Count where the rows of the latest windows are now; exit code 1 when some are missing or too many.

    A window is the feedback that one DAG run handled. It is balanced when arrived = valid + quarantined +
    duplicates + erased. Late rows happened before an earlier window was closed; rows out of order happened
    before another one that had arrived earlier in the window.
    """
    from rich.console import Console
    from rich.table import Table

    from recsys.settings import load_settings
    from recsys.warehouse.engine import connect
    from recsys.warehouse.windows import latest_windows, reconcile_window

    engine = connect(load_settings().require_warehouse_url())
    counts = ("arrived", "valid", "quarantined", "duplicates", "erased")
    table = Table("window", "consumer", "opened at", "run")
    for name in counts:
        table.add_column(name, justify="right")
    table.add_column("balanced")
    arrivals = ("late", "out_of_order")
    for name in arrivals:
        table.add_column(name.replace("_", " "), justify="right")
    unbalanced = []
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
    engine.dispose()
    Console().print(table if table.row_count else "There are no windows yet.")
    if unbalanced:
        typer.echo(f"Rows do not add up in window {', '.join(unbalanced)}.", err=True)
        raise typer.Exit(EXIT_MISMATCH)
