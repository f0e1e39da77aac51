"""`recsys settings`."""

from collections.abc import Iterator

from pydantic import BaseModel, SecretStr
from rich.console import Console
from rich.table import Table

from recsys.settings import load_settings


def settings() -> None:
    """List every setting: its environment variable, its current value, its meaning and unit."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("environment variable", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for name, value, meaning in _rows(load_settings(), "RECSYS_"):
        table.add_row(name, value, meaning)
    Console().print(table)


def _rows(section: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, f"{prefix}{name.upper()}__")
        else:
            shown = "(set)" if isinstance(value, SecretStr) else "-" if value is None else str(value)
            yield f"{prefix}{name.upper()}", shown, field.description or ""
