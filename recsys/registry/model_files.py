"""Digests of a version's files, in the warehouse: who may write to MLflow cannot change them there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recsys.settings import Settings
from recsys.warehouse.engine import connect
from recsys.warehouse.tables import model_files


@dataclass(frozen=True)
class RecordedFiles:
    """What the warehouse knows about the files of a version.

    Attributes
    ----------
    model_id
        MLflow's id of the model; None if an earlier release registered it.
    files
        Digests by path; None if an earlier release registered it and nobody has used it since.
    """

    model_id: str | None
    files: Mapping[str, str] | None


def describe_changes(recorded: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return what differs from the recorded files, by name; empty if nothing does."""
    return [
        *(f"{name} is missing" for name in sorted(recorded.keys() - found.keys())),
        *(f"{name} has changed" for name in sorted(recorded.keys() & found) if recorded[name] != found[name]),
        *(f"{name} was added" for name in sorted(found.keys() - recorded.keys())),
    ]


def record_files(settings: Settings, model_id: str, run_key: str, files: Mapping[str, str]) -> None:
    """Record the files of a model before they leave this machine."""
    with _warehouse(settings) as connection:
        connection.execute(insert(model_files).values(model_id=model_id, run_key=run_key, files=dict(files)))


def is_recorded(settings: Settings, model_id: str) -> bool:
    """Return whether the files of a model are recorded."""
    found = sa.select(model_files.c.files).where(model_files.c.model_id == model_id)
    with _warehouse(settings) as connection:
        return connection.scalar(found) is not None


def name_version(settings: Settings, model_id: str, version: str) -> None:
    """Record which version a model became."""
    of_version = model_files.c.model_version == version
    with _warehouse(settings) as connection:
        # An MLflow that was set up anew counts from 1 again.
        connection.execute(
            sa.delete(model_files).where(of_version, model_files.c.model_id.is_distinct_from(model_id))
        )
        connection.execute(
            sa.update(model_files).where(model_files.c.model_id == model_id).values(model_version=version)
        )


def recorded_files(settings: Settings, version: str) -> RecordedFiles | None:
    """Return what was recorded for a version; None if nothing was."""
    found = sa.select(model_files.c.model_id, model_files.c.files).where(
        model_files.c.model_version == version
    )
    with _warehouse(settings) as connection:
        row = connection.execute(found).first()
    return None if row is None else RecordedFiles(row.model_id, row.files)


def record_version(settings: Settings, version: str, model_id: str, files: Mapping[str, str]) -> None:
    """Record the files of a registered version, unless they are recorded; the first caller wins."""
    values = {"model_id": model_id, "files": dict(files)}
    with _warehouse(settings) as connection:
        connection.execute(
            insert(model_files)
            .values(model_version=version, **values)
            .on_conflict_do_update(
                index_elements=[model_files.c.model_version],
                set_=values,
                where=model_files.c.files.is_(None),
            )
        )


@contextmanager
def _warehouse(settings: Settings) -> Iterator[sa.Connection]:
    engine = connect(settings.require_warehouse_url())
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
