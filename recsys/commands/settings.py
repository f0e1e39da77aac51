"""`recsys settings`."""

from collections.abc import Iterator

from pydantic import BaseModel, SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recsys.settings import load_settings


def settings() -> None:
    """List every setting: its environment variable, its current value, its meaning and unit."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    # A name is copied or searched for, so it stays on one line.
    table.add_column("environment variable", no_wrap=True)
    for column in ("value", "meaning"):
        table.add_column(column, overflow="fold")
    for name, value, meaning in describe_settings(load_settings(), "RECSYS_"):
        table.add_row(name, escape(value), escape(meaning))
    Console().print(table)


def describe_settings(section: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield environment variable, value and meaning of every setting of a section and those below it."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from describe_settings(value, f"{prefix}{name.upper()}__")
        else:
            shown = "(set)" if isinstance(value, SecretStr) else "-" if value is None else str(value)
            yield f"{prefix}{name.upper()}", shown, field.description or ""
