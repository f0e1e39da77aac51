"""Read a folder of items and feedback through the product's own path: ingest, validation and a snapshot.

What `recsys ingest` refuses is refused here for the same reason, and what validation moves to quarantine is
not in the benchmark. The path runs on a temporary Postgres.

The folder holds, each as CSV, TSV, JSONL or Parquet (text may be compressed with gzip):

- `items`: the columns that `recsys ingest items` reads; other columns become attributes;
- `feedback`: user_id (or visitor_id, anonymous_id or session_id of people who are not registered), item_id,
  event_type, value, comment, occurred_at. If no line has a time, the order of the lines counts and the data
  cannot be split by time;
- `users` (optional): user_id, consent, attributes; other columns become attributes;
- `impressions` (optional): impression_id, user_id (or a session), item_id, position, clicked;
  one line for each item of a list that was shown, in the order in which people saw the lists;
- `event_types` (optional): event_type and any other columns of the table `event_types`. It adds types, and
  changes those of a new warehouse.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from benchmarks.made_warehouse import PSEUDONYM_KEY, kept_warehouse
from benchmarks.shown_lists import ShownLists, read_shown_lists
from recsys.commands.ingest import summary_lines
from recsys.errors import ConfigurationError, IngestError
from recsys.settings import Settings, load_settings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.validation.validate import validate_window
from recsys.warehouse.engine import connect
from recsys.warehouse.files.open import open_source
from recsys.warehouse.incoming import LAYOUTS
from recsys.warehouse.ingest import IngestSummary, ingest_file
from recsys.warehouse.recipes import apply_recipe, check_recipe
from recsys.warehouse.tables import event_types
from recsys.warehouse.tables import items as items_table
from recsys.warehouse.tables import users as users_table
from recsys.warehouse.value_checks import Checked, TimeUnit
from recsys.warehouse.windows import open_window

SUFFIXES = (
    *(f"{kind}{packed}" for kind in (".csv", ".tsv", ".jsonl", ".ndjson") for packed in ("", ".gz")),
    ".parquet",
)
WITHOUT_DEFINITION = {"explicit": False, "weight": 1.0, "polarity": 0}
"""Meaning of an event type that nothing defines: something that one wants to happen."""
_SHOWN_REJECTS = 3
# Validation takes times before 1990 for mistakes.
_FIRST_SECOND = 946_684_800


@dataclass(frozen=True)
class OwnCatalogue:
    """What a folder holds.

    Attributes
    ----------
    has_times
        Whether times are known. Otherwise events are a second apart, in the order of the lines.
    notes
        What was read, refused and assumed, for people.
    """

    catalogue: Catalogue
    event_types: EventTypes
    sequences: Sequences
    has_times: bool
    notes: list[str] = field(default_factory=list)
    shown: ShownLists | None = None
    is_defined: bool = False
    """Whether somebody said what the event types mean."""


def read_own_catalogue(
    folder: Path,
    *,
    assume_timezone: str | None = None,
    time_unit: TimeUnit = "seconds",
    recipe: str | None = None,
    definitions: Path | None = None,
    settings: Settings | None = None,
) -> OwnCatalogue:
    """Read a folder.

    Parameters
    ----------
    assume_timezone, time_unit
        As in `recsys ingest feedback`.
    recipe
        What event types mean before the folder's file changes it, see `recsys migrate --recipe`.
    definitions
        File of event types, instead of the folder's.
    settings
        Limits of validation; default: those of the environment.

    Raises
    ------
    RecsysError
        A file is missing or cannot be read, a row of `event_types` is wrong, or no feedback is left.
    """
    if recipe is not None:
        check_recipe(recipe)
    items, feedback = find_file(folder, "items"), find_file(folder, "feedback")
    if items is None or feedback is None:
        missing = "items" if items is None else "feedback"
        raise ConfigurationError(
            f"{folder} has no {missing}.csv (or {', '.join(SUFFIXES[1:])}); "
            "see `python -m benchmarks.quality --help`"
        )
    root = Path(tempfile.mkdtemp(prefix="recsys-catalogue-"))
    try:
        with kept_warehouse(root) as (_, url, _):
            own = (settings or load_settings(root)).model_dump() | {
                "home": root, "warehouse_url": url, "pseudonym_key": PSEUDONYM_KEY
            }  # fmt: skip
            engine = connect(url)
            try:
                load = _Load(engine, root, Settings(**own))
                own_types = definitions or find_file(folder, "event_types")
                load.event_types(recipe, own_types)
                own = load.run(items, find_file(folder, "users"), feedback, assume_timezone, time_unit)
                own = replace(own, is_defined=bool(recipe or own_types))
                shown = find_file(folder, "impressions")
                return own if shown is None else replace(own, shown=load.shown_lists(shown, own))
            finally:
                engine.dispose()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def find_file(folder: Path, name: str) -> Path | None:
    """Return the folder's file `name` in any format, or None; raise ConfigurationError if there are two."""
    found = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise ConfigurationError(
            f"{folder} has {' and '.join(path.name for path in found)}; leave one of them"
        )
    return found[0] if found else None


class _Load:
    """Loads the files of one folder into an empty warehouse."""

    def __init__(self, engine: sa.Engine, root: Path, settings: Settings) -> None:
        self.engine, self.root, self.settings = engine, root, settings
        self.notes: list[str] = []

    def event_types(self, recipe: str | None, path: Path | None) -> None:
        if recipe is not None:
            apply_recipe(self.engine, recipe)
        if path is not None:
            self._define(_event_type_rows(path))

    def run(
        self,
        items: Path,
        users: Path | None,
        feedback: Path,
        assume_timezone: str | None,
        time_unit: TimeUnit,
    ) -> OwnCatalogue:
        given = {"assume_timezone": assume_timezone, "time_unit": time_unit}
        self._note(self._ingest("items", items, other_columns="attributes", **given))
        if users is not None:
            self._note(self._ingest("users", users, other_columns="attributes"))
        has_times = _has_times(feedback)
        if not has_times:
            self.notes.append(f"{feedback} has no times: the order of its lines counts, in this copy:")
            feedback, time_unit = _with_order_as_time(feedback, self.root / "feedback.parquet"), "seconds"
            with self.engine.begin() as connection:  # in made-up times no item would be available
                connection.execute(items_table.update().values(available_from=None, available_until=None))
        loaded = self._ingest("feedback", feedback, assume_timezone=assume_timezone, time_unit=time_unit)
        self._note(loaded)
        if loaded.inserted == 0:
            raise ConfigurationError("no line of feedback could be loaded:\n" + "\n".join(self.notes))
        self._define_others()
        self._validate()
        snapshot = read_snapshot(take_full_snapshot(self.engine, self.window, self.settings), verify="sizes")
        return OwnCatalogue(
            snapshot.catalogue(), snapshot.event_types(), snapshot.sequences(), has_times, self.notes
        )

    def shown_lists(self, path: Path, own: OwnCatalogue) -> ShownLists:
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(users_table.c.user_id, users_table.c.user_key)).all()
        lists, unknown = read_shown_lists(path, own.sequences, own.catalogue, dict(map(tuple, rows)))
        self.notes.append(f"{path}: {len(lists.users):,} lists of {len(lists.items):,} items")
        if unknown:
            self.notes.append(f"  left out     {unknown:>10,}  of unknown people or items")
        return lists

    def _ingest(self, table: Any, path: Path, **options: Any) -> IngestSummary:
        return ingest_file(self.engine, table, path, reject_file=self._rejects(table), **options)

    def _rejects(self, table: str) -> Path:
        return self.root / f"{table}.rejected.jsonl"

    def _note(self, summary: IngestSummary) -> None:
        self.notes += [
            line.partition("  see ")[0] for line in summary_lines(summary) if not line.endswith(" 0")
        ]
        if summary.reject_file is not None:
            with summary.reject_file.open(encoding="utf-8") as lines:
                rejects = [json.loads(line) for line in islice(lines, _SHOWN_REJECTS)]
            self.notes += [f"    line {row['line']}: {row['reason']}" for row in rejects]

    def _define(self, rows: Iterable[dict[str, Any]]) -> None:
        with self.engine.begin() as connection:
            for row in rows:
                others = {name: value for name, value in row.items() if name != "event_type"}
                statement = insert(event_types).values({**WITHOUT_DEFINITION, **row})
                try:
                    connection.execute(
                        statement.on_conflict_do_update(index_elements=["event_type"], set_=others)
                        if others
                        else statement.on_conflict_do_nothing()
                    )
                except (sa.exc.IntegrityError, sa.exc.DataError) as error:
                    reason = str(error.orig).partition("\n")[0]
                    raise ConfigurationError(f"event type {row['event_type']!r}: {reason}") from error

    def _define_others(self) -> None:
        with self.engine.connect() as connection:
            names = connection.scalars(
                sa.text(
                    "SELECT DISTINCT event_type FROM feedback "
                    "EXCEPT SELECT event_type FROM event_types ORDER BY 1"
                )
            ).all()
        if names:
            self._define({"event_type": name} for name in names)
            self.notes.append(
                f"event types without a definition, taken for wanted events of weight 1: {', '.join(names)}; "
                "define them in event_types.csv"
            )

    def _validate(self) -> None:
        self.window = open_window(self.engine, "benchmark", "benchmark")
        report = validate_window(self.engine, self.window, self.settings, self.root / "data_docs")
        held = report.quarantined + report.duplicates
        if held:
            self.notes.append(f"  in quarantine {held:>10,}")
        with self.engine.connect() as connection:
            for reason, count in report.reasons.items():
                example = connection.scalar(
                    sa.text("SELECT feedback FROM quarantine WHERE :reason = ANY (reasons) LIMIT 1"),
                    {"reason": reason},
                )
                named = ("user_id", "item_id", "event_type", "value", "occurred_at")
                shown = ", ".join(
                    f"{name} {example[name]}" for name in named if example.get(name) is not None
                )
                self.notes.append(f"    {reason}: {count:,}, such as {shown}")
        if report.valid == 0:
            raise ConfigurationError("all feedback is in quarantine:\n" + "\n".join(self.notes))


def _event_type_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the file as rows of the table `event_types`, without values that it leaves out."""
    columns = {column.name: column.type for column in event_types.columns}
    source = open_source(path, frozenset(columns), frozenset(columns))
    if "event_type" not in source.columns:
        raise IngestError(f"{path} has no column 'event_type'; its columns are {', '.join(source.columns)}")
    if unknown := [name for name in source.columns if name not in columns]:
        raise IngestError(
            f"{path}: the table event_types has no column {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(columns)}"
        )
    rows: list[dict[str, Any]] = []
    for chunk in source.chunks:
        checked = Checked(dict(chunk.columns), chunk.rows)
        read = {name: _column(checked, name, columns[name]) for name in source.columns}
        wrong = [(bad.line, bad.reason) for bad in chunk.bad]
        wrong += [(chunk.locate(row)[0], reason) for row, reason in checked.wrong_rows()]
        if wrong:
            line, reason = min(wrong)
            raise IngestError(f"{path}, line {line}: {reason}")
        rows += pa.table(read).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _column(checked: Checked, name: str, kind: Any) -> pa.Array:
    if name == "event_type":
        return checked.identifier(name)
    if isinstance(kind, sa.Boolean):
        return checked.boolean(name)
    return checked.number(name) if kind.python_type in (int, float) else checked.text(name)


def _has_times(path: Path) -> bool:
    layout = LAYOUTS["feedback"]
    source = open_source(path, layout.known, layout.numbers)
    if "occurred_at" not in source.columns:
        return True  # loading the file says that the column is missing
    with closing(source.chunks) as chunks:  # type: ignore[type-var]
        return any(len(chunk.columns["occurred_at"].drop_null()) for chunk in chunks)


def _with_order_as_time(path: Path, copy: Path) -> Path:
    """Write a copy in which events are a second apart, in the order of the lines."""
    layout = LAYOUTS["feedback"]
    source = open_source(path, layout.known, layout.numbers)
    names: Sequence[str] = [name for name in source.columns if name in layout.known]
    parts, row = [], 0
    for chunk in source.chunks:
        columns = {name: chunk.columns[name] for name in names}
        columns["occurred_at"] = pa.array(
            range(_FIRST_SECOND + row, _FIRST_SECOND + row + chunk.rows), pa.int64()
        )
        parts.append(pa.table(columns))
        row += chunk.rows
    pq.write_table(pa.concat_tables(parts), copy)
    return copy
