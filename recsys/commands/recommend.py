"""`recsys recommend`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recsys.commands.engine import warehouse_engine
from recsys.errors import ConfigurationError
from recsys.settings import load_settings


def recommend(
    user: Annotated[str, typer.Argument(metavar="USER", help="User id.", show_default=False)] = "",
    k: Annotated[int, typer.Option(min=1, help="Number of items to show.")] = 10,
    request: Annotated[
        str,
        typer.Option(
            help="What the user asks for, in natural language. The champion ranks items for it. "
            "Default: show the published list."
        ),
    ] = "",
    session: Annotated[
        str,
        typer.Option(
            help="Id of a session, in place of a user id: of the user who has joined it, or of its visitor. "
            "The champion ranks items for visitors without a published list."
        ),
    ] = "",
) -> None:
    """Show a user's or a session's recommendations with titles, scores and reasons."""
    from recsys.publishing.read import has_list, published_recommendations, requested_recommendations
    from recsys.warehouse.visitors import user_of

    if bool(user) == bool(session):
        raise ConfigurationError("name whose recommendations to show: either USER or --session ID")
    settings = load_settings()
    with warehouse_engine(settings) as engine:
        if session:
            with engine.connect() as connection:
                user = user_of(connection, session)
        if request.strip():
            found = requested_recommendations(engine, settings, user, request, k)
            origin = f'for the request "{request}"'
        elif session and not has_list(engine, user):
            found = requested_recommendations(engine, settings, user, "", k)
            origin = "ranked now"
        else:
            found = published_recommendations(engine, user, k)
            origin = f"published {found.published_at:%Y-%m-%d %H:%M:%S %Z}"
    if not found.recommendations:
        typer.echo(
            f"Version {found.model_version} has nothing for user {user!r}, {origin}: no available item is "
            "left that the user has not had."
        )
        return
    table = Table(
        title=f"{escape(user)}: version {escape(found.model_version)}, {escape(origin)}",
        title_justify="left",
        title_style="bold",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    table.add_column("", justify="right")
    table.add_column("title", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("reason", overflow="fold")
    table.add_column("item", style="dim", overflow="fold")
    for row in found.recommendations:
        table.add_row(
            str(row.rank), escape(row.title), f"{row.score:.3f}", escape(row.reason), escape(row.item_id)
        )
    Console().print(table)
