"""The `recsys` command: the list of all commands, and how errors are printed.

A command is a plain function in the module of its group. The function imports heavy libraries itself, so
that `recsys --help` is fast.
"""

import logging
import sys
from collections.abc import Callable

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from recsys.commands import (
    demo,
    experiment,
    ingest,
    models,
    publish,
    quarantine,
    recommend,
    serve,
    settings,
    simulate,
    stack,
    upkeep,
    variants,
    warehouse,
)
from recsys.errors import RecsysError
from recsys.local.home import keep_private

EXIT_ERROR = 2

_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "This machine": {
        "up": stack.up,
        "status": stack.status,
        "down": stack.down,
        "demo": demo.demo,
        "settings": settings.settings,
    },
    "Feedback": {
        "migrate": warehouse.migrate,
        "ingest items": ingest.items,
        "ingest users": ingest.users,
        "ingest feedback": ingest.feedback,
        "ingest impressions": ingest.impressions,
        "variants propose": variants.propose,
        "quarantine list": quarantine.list_rows,
        "quarantine show": quarantine.show,
        "quarantine release": quarantine.release,
        "quarantine discard": quarantine.discard,
        "quarantine impressions": quarantine.impressions,
        "reconcile": warehouse.reconcile,
    },
    "Models": {
        "champion": models.champion,
        "history": models.history,
        "compare": models.compare,
        "download": models.download,
        "promote": models.promote,
        "rollback": models.rollback,
        "publish": publish.publish,
        "recommend": recommend.recommend,
        "simulate": simulate.simulate,
    },
    "Experiments": {
        "experiment start": experiment.start,
        "experiment status": experiment.status,
        "experiment stop": experiment.stop,
    },
    "Applications": {
        "serve": serve.serve,
    },
    "Upkeep": {
        "forget": upkeep.forget,
        "readmit": upkeep.readmit,
        "rotate-keys": upkeep.rotate_keys,
        "after-restore": upkeep.after_restore,
        "recompute-analytics": upkeep.recompute_analytics,
    },
}

_GROUPS = {
    "ingest": "Load items, users, feedback or impressions from a file.",
    "variants": "Find items that are one thing.",
    "experiment": "Let users decide between two model versions.",
    "quarantine": "Inspect, release or discard what broke a validation rule.",
}


def _build() -> typer.Typer:
    root = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",  # joins the lines of a paragraph, at any width of the terminal
        help="A language-model recommender that keeps learning from its users' feedback.",
    )
    groups: dict[str, typer.Typer] = {}
    for panel, commands in _COMMANDS.items():
        for words, function in commands.items():
            group, _, name = words.rpartition(" ")
            if not group:
                root.command(name, rich_help_panel=panel)(function)
                continue
            if group not in groups:
                groups[group] = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
                root.add_typer(groups[group], name=group, help=_GROUPS[group], rich_help_panel=panel)
            groups[group].command(name)(function)
    return root


app = _build()


def main() -> None:
    """Run a command. Errors of this project are printed as one plain message; the exit code is then 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Reject files, downloads and reports hold personal data as well.
    keep_private()
    try:
        app()
    except RecsysError as error:
        message = str(error)
    except ValidationError as error:
        message = "invalid settings (`recsys settings` lists all of them):\n" + "\n".join(
            f"  RECSYS_{'__'.join(str(part) for part in wrong['loc']).upper()}: {wrong['msg']}"
            for wrong in error.errors()
        )
    else:
        return
    Console(stderr=True).print(f"[bold red]Error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(EXIT_ERROR)


if __name__ == "__main__":
    main()
