"""Propose groups of items that look like one thing, for a person to accept."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import IO

import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.warehouse.statements import read_statement

_HEADER = ("item_id", "variant_of", "about")


@dataclass(frozen=True)
class Proposal:
    """How many items may join how many groups."""

    items: int
    groups: int


def propose_variants(engine: sa.Engine, path: Path) -> Proposal:
    """Write a CSV file that `recsys ingest items` reads once a person has checked it.

    Each line gives an item, the group it may join, and what it is about; ingest ignores the last column, so
    that titles stay as they are. If nothing looks alike, no file is written.

    Raises
    ------
    ConfigurationError
        The file exists, so that a person may have edited it, or it cannot be written.
    """
    if path.exists():
        raise ConfigurationError(
            f"{path} exists and may hold what somebody decided; load it with `recsys ingest items {path}`, "
            "remove it, or name another file with --output"
        )
    try:
        # With its last name only when it is complete, and with its own name while two people run this.
        handle, name = mkstemp(dir=path.parent, prefix=f"{path.name}.")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}); name another file with --output"
        ) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            found = _write(engine, file)
        if found.items:
            Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return found


def _write(engine: sa.Engine, file: IO[str]) -> Proposal:
    groups: set[str] = set()
    items = 0
    with engine.connect() as connection:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        found = connection.execution_options(stream_results=True).exec_driver_sql(
            read_statement("warehouse/select_variant_proposals")
        )
        for item_id, variant_of, title, attributes in found:
            # A spreadsheet takes a text that begins with = for a formula.
            writer.writerow((item_id, variant_of, f"title: {title}; attributes: {attributes}"))
            groups.add(variant_of)
            items += 1
    return Proposal(items, len(groups))
