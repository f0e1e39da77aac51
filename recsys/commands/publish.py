"""`recsys publish`."""

from enum import StrEnum
from typing import Annotated
from uuid import uuid4

import typer

from recsys.commands.engine import warehouse_engine
from recsys.settings import load_settings


class Users(StrEnum):
    """For whom lists are published."""

    AUTO = "auto"
    ALL = "all"
    AFFECTED = "affected"


def publish(
    scope: Annotated[
        Users,
        typer.Option(help="all; affected: users with feedback since the last publication; auto: as needed."),
    ] = Users.AUTO,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that score at the same time; each loads the model.")
    ] = 1,
) -> None:
    """Score users with the champion and replace what they see, in one transaction."""
    from recsys.publishing.processes import publish_in_processes
    from recsys.publishing.publish import publish as publish_at_once

    settings = load_settings()
    run_key = f"recsys publish/{uuid4()}"
    with warehouse_engine(settings) as engine:
        if processes == 1:
            summary = publish_at_once(engine, settings, scope=scope.value, run_key=run_key)
        else:
            summary = publish_in_processes(
                engine, settings, processes=processes, scope=scope.value, run_key=run_key
            )
    typer.echo(
        f"Published recommendations for {summary.users} users and vectors of {summary.items} items from "
        f"version {summary.model_version} ({summary.seconds:.0f} s)."
    )
