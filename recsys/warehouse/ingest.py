"""Load files of items, users, feedback and impressions into the warehouse.

Each chunk of a file is checked and loaded in its own transaction. So memory use is constant, windows never
wait long for a load, and an interrupted load can be started again: rows that already exist are skipped.
Lines that are not valid rows go to the reject file. Whether a row makes sense (known item, value in range)
is checked later, by validation.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import ConfigurationError, IngestError
from recsys.prefetch import prefetch
from recsys.warehouse.attribute_columns import ATTRIBUTES, add_to_attributes
from recsys.warehouse.erased_users import ErasedUsers
from recsys.warehouse.files.chunks import BadLine, Chunk, Source
from recsys.warehouse.files.open import open_source
from recsys.warehouse.incoming import LAYOUTS, Layout
from recsys.warehouse.merge import Merger
from recsys.warehouse.number_values import TimeUnit
from recsys.warehouse.rejects import RejectFile
from recsys.warehouse.tables import event_types
from recsys.warehouse.value_checks import Checked

IngestTable = Literal["items", "users", "feedback", "impressions"]
NewUsers = Literal["register", "leave"]
OtherColumns = Literal["ignore", "attributes"]
Progress = Callable[[int, int], None]
"""Called with the amount done and the total, in bytes (Parquet: rows)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestSummary:
    """Counts of a load: read = inserted + updated + duplicates + rejected."""

    table: str
    path: Path
    read: int
    inserted: int
    updated: int
    duplicates: int
    """Rows that already existed unchanged."""
    rejected: int
    reject_file: Path | None
    seconds: float
    new_users: int = 0
    """Users registered because this file's feedback named them first, with `consent`."""
    consent: bool = True
    unknown_columns: tuple[str, ...] = ()
    in_quarantine: int = 0
    """Duplicates that an earlier load brought and that are held in quarantine."""
    changed_ids: int = 0
    """Ids that were written without surrounding spaces or without the `.0` of a whole number."""
    changed_id: tuple[str, str] | None = None
    """One of them, before and after; only of items and event types, because others belong to people."""
    of_erased_users: int = 0
    """Rejected rows of users who were erased."""


def ingest_file(
    engine: sa.Engine,
    table: IngestTable,
    path: Path,
    *,
    reject_file: Path | None = None,
    progress: Progress | None = None,
    new_users: NewUsers = "register",
    consent: bool = True,
    assume_timezone: str | None = None,
    time_unit: TimeUnit = "seconds",
    other_columns: OtherColumns = "ignore",
    tombstone_keys: Sequence[bytes] = (),
) -> IngestSummary:
    """Load a CSV, TSV, JSONL or Parquet file.

    Parameters
    ----------
    table
        Table that the rows belong to. Existing items and users are updated; feedback and impressions whose
        id exists are skipped.
    reject_file
        Path for lines that are not valid rows, as JSON Lines of `line`, `reason` and `text`. None:
        `NAME.rejected.jsonl` beside the file. Written only if there are such lines.
    new_users
        What to do when feedback names users who are not in the warehouse: `register` them, or `leave` that
        to the application; validation then quarantines their feedback.
    consent
        Consent to training for new users whose consent the file does not give.
    assume_timezone
        IANA name of the time zone of times that have none, such as `Europe/Paris`. None: such times are
        rejected.
    time_unit
        Unit of times that are numbers, counted since 1970.
    other_columns
        What to do with columns that the table does not have: `ignore` them, or store them as `attributes`
        of items or users, see `recsys.warehouse.attribute_columns`.
    tombstone_keys
        `Settings.tombstone_keys()`. Rows of erased users are rejected; the reject file omits their text.

    Raises
    ------
    ConfigurationError
        The table or the time zone is unknown, the table has no attributes to store other columns in, or
        somebody was erased and their key is not given.
    IngestError
        The file cannot be read as rows of this table.
    """
    if table not in get_args(IngestTable):
        raise ConfigurationError(
            f"files cannot be loaded into {table!r}; choose one of {', '.join(get_args(IngestTable))}"
        )
    layout = LAYOUTS[table]
    zone = _zone(assume_timezone)
    started = time.monotonic()
    source = open_source(path, layout.known, layout.numbers)
    attributes: tuple[str, ...] = ()
    if other_columns == "attributes":
        if ATTRIBUTES not in layout.known:
            raise ConfigurationError(f"{table} have no attributes to store other columns in; ignore them")
        attributes = tuple(name for name in source.columns if name and name not in layout.known)
        source = open_source(path, layout.known.union(attributes), layout.numbers)
    unknown = _check_columns(path, layout, source, attributes)
    read = (add_to_attributes(chunk, attributes) for chunk in source.chunks) if attributes else source.chunks
    without_flags = _types_without_flags(engine) if table == "feedback" else frozenset()

    def check(chunk: Chunk) -> tuple[Chunk, Checked, pa.Table]:
        checked = Checked(dict(chunk.columns), chunk.rows, zone, time_unit, without_flags)
        return chunk, checked, checked.good_rows(layout.check(checked))

    with (
        RejectFile(reject_file, beside=path) as rejects,
        Merger(
            engine,
            layout,
            register_users=new_users == "register",
            consent=consent,
            erased=ErasedUsers(tombstone_keys),
        ) as merger,
        # Postgres loads one chunk while the next is read and checked.
        closing(prefetch(check(chunk) for chunk in read)) as chunks,
    ):
        changed_ids, changed_id = 0, None
        for chunk, checked, good in chunks:
            changed_ids += checked.changed_ids
            changed_id = changed_id or checked.changed_id
            _load_chunk(chunk, checked, good, merger, rejects)
            if progress is not None:
                progress(source.position(), source.size)
    if progress is not None:
        progress(source.size, source.size)
    counts = merger.counts
    summary = IngestSummary(
        table=table,
        path=path,
        read=counts.inserted + counts.updated + counts.duplicates + rejects.count,
        inserted=counts.inserted,
        updated=counts.updated,
        duplicates=counts.duplicates,
        rejected=rejects.count,
        reject_file=rejects.path if rejects.count else None,
        seconds=time.monotonic() - started,
        new_users=counts.new_users,
        consent=consent,
        unknown_columns=unknown,
        in_quarantine=counts.in_quarantine,
        changed_ids=changed_ids,
        changed_id=changed_id,
        of_erased_users=counts.erased,
    )
    logger.info(
        "%s: %d read, %d inserted, %d updated, %d duplicates, %d rejected in %.1f s",
        path.name, summary.read, summary.inserted, summary.updated, summary.duplicates, summary.rejected,
        summary.seconds,
    )  # fmt: skip
    return summary


def _types_without_flags(engine: sa.Engine) -> frozenset[str]:
    """Return the event types whose values have a range or are an amount."""
    types = event_types.c
    measured = sa.or_(types.min_value.is_not(None), types.max_value.is_not(None), types.value_is_amount)
    with engine.connect() as connection:
        return frozenset(connection.scalars(sa.select(types.event_type).where(measured)))


def _load_chunk(chunk: Chunk, checked: Checked, good: pa.Table, merger: Merger, rejects: RejectFile) -> None:
    wrong = [BadLine(*_at(chunk, row, reason)) for row, reason in checked.wrong_rows()]
    rows = checked.good_row_numbers()
    refused = merger.merge(good)
    for row, reason, of_erased_user in refused:
        line, reason, text = _at(chunk, rows[row], reason)
        wrong.append(BadLine(line, reason, "" if of_erased_user else text))
    rejects.write(sorted([*chunk.bad, *wrong], key=lambda bad: bad.line))


def _at(chunk: Chunk, row: int, reason: str) -> tuple[int, str, str]:
    line, text = chunk.locate(row)
    return line, reason, text


def _check_columns(path: Path, layout: Layout, source: Source, attributes: Sequence[str]) -> tuple[str, ...]:
    missing = [name for name in layout.required if name not in source.columns]
    if layout.people and not set(layout.people) & set(source.columns):
        missing.insert(0, layout.people[0])
    if missing and _may_be_a_row(layout, source):
        raise IngestError(
            f"{path} names no column of {layout.table}; if it has no header, add one. A file of "
            f"{layout.table} needs {_needs(layout)} and may have {', '.join(layout.optional)}"
        )
    if missing:
        raise IngestError(
            f"{path} has no column {', '.join(map(repr, missing))}; its columns are "
            f"{', '.join(source.columns) or 'none'}. A file of {layout.table} needs "
            f"{_needs(layout)} and may have {', '.join(layout.optional)}"
        )
    expected = layout.known.union(attributes, layout.remarks)
    unknown = tuple(name for name in source.columns if name not in expected)
    if unknown:
        logger.warning(
            "%s: columns that the table %s does not have are ignored: %s",
            path,
            layout.table,
            ", ".join(unknown),
        )
    return unknown


def _needs(layout: Layout) -> str:
    needed = ", ".join(layout.required)
    if not layout.people:
        return needed
    first, *others = layout.people
    return f"{first} (for people who are not registered: {' or '.join(others)}), {needed}"


def _may_be_a_row(layout: Layout, source: Source) -> bool:
    """Whether what was read as a header may be a row, which a message must not show."""
    if not layout.known.isdisjoint(source.columns):
        return False
    return layout.table == "users" or any(map(str.isdigit, "".join(source.columns)))


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{name!r} is not a time zone; use an IANA name such as UTC or Europe/Paris"
        ) from error
