"""JSON files of results: typed, written whole or not at all, with NaN as null."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, TypeAdapter

from recsys.errors import EvaluationError

_T = TypeVar("_T")

Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A float that may be NaN: JSON has no NaN, so the file says null."""


def write_json(path: Path, kind: TypeAdapter[_T], value: _T) -> None:
    """Write a value; the file appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(kind.dump_json(value, indent=2) + b"\n")
    partial.rename(path)


def read_json(path: Path, kind: TypeAdapter[_T]) -> _T:
    """Read what `write_json` wrote.

    Raises
    ------
    EvaluationError
        The file is missing, or it is not a value of this kind.
    """
    try:
        return kind.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read ({error}); evaluate again") from error
