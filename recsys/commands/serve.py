"""`recsys serve`."""

from typing import Annotated

import typer

from recsys.settings import load_settings

DEFAULT_PORT = 8765


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free port.")] = DEFAULT_PORT,
) -> None:
    """Answer applications over HTTP: lists, feedback and metrics.

    Beyond this machine it needs keys in RECSYS_SERVING__API_KEYS, and a proxy with TLS in front.
    """
    from recsys.serving.http.server import run

    run(load_settings(), host=host, port=port, announce=typer.echo)
