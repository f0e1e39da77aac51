"""`recsys demo`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 120  # columns; the report's tables do not fit into rich's default of 80


def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with MovieLens files. Default: MovieLens-100K from the package index."),
    ] = None,
) -> None:
    """Run the whole loop on real feedback: a nightly training, an hourly update, and a report.

    Starts the stack if it is not running, and stops it again at the end.
    """
    from recsys.local.packages import require_packages

    require_packages()
    from recsys.commands.demo_run import run_demo

    run_demo(Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL), data)
