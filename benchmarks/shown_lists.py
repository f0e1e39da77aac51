"""Lists that users were shown, one line for each item, and what they clicked in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.columns import Columns
from recsys.errors import IngestError
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.warehouse.files.open import open_source
from recsys.warehouse.incoming import SESSIONS, person
from recsys.warehouse.value_checks import Checked

COLUMNS = ("impression_id", "item_id", "position", "clicked")
PEOPLE = (Columns.USER_ID, *SESSIONS)
"""A line names its person in one of these, as feedback does."""


@dataclass(frozen=True, eq=False)
class ShownLists:
    """Lists in the order of the file, which is that in which each user saw them.

    Attributes
    ----------
    users
        `[lists]` index of the user.
    offsets, items
        `[lists + 1]` and `[shown]` items of each list, in the order of their positions.
    clicked
        `[shown]` whether the item was clicked.
    """

    users: NDArray[np.int64]
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    clicked: NDArray[np.bool_]

    def of(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the items of a list, and those that were clicked."""
        place = slice(self.offsets[number], self.offsets[number + 1])
        return self.items[place], self.items[place][self.clicked[place]]

    @property
    def list_of_item(self) -> NDArray[np.int64]:
        """`[shown]` the list that shows it."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.offsets))


def read_shown_lists(
    path: Path, sequences: Sequences, catalogue: Catalogue, keys: Mapping[str, str]
) -> tuple[ShownLists, int]:
    """Read a file of shown items; also return how many lines name an unknown person or item.

    Parameters
    ----------
    path
        File with the columns `COLUMNS` and at least one of `PEOPLE`.
    keys
        Keyed hash of each user id and visitor id.

    Raises
    ------
    IngestError
        The file cannot be read, a column is missing, or a value is wrong.
    """
    rows = _rows(path)
    place = {key: number for number, key in enumerate(sequences.user_keys)}
    of_name = {name: place.get(key, -1) for name, key in keys.items()}
    users = np.array([of_name.get(name, -1) for name in rows[Columns.USER_ID].to_pylist()], dtype=np.int64)
    items = catalogue.lookup(rows["item_id"].to_pylist()).astype(np.int64)
    known = np.flatnonzero((users >= 0) & (items >= 0))
    names = np.asarray(rows["impression_id"].to_pylist(), dtype=str)[known]
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.lexsort((_numbers(rows, "position")[known], first[inverse]))
    lists, rows_of = first[inverse][order], known[order]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(lists) != 0])) if len(lists) else lists
    found = ShownLists(
        users=users[rows_of][begins], offsets=np.append(begins, len(lists)), items=items[rows_of],
        clicked=_numbers(rows, "clicked")[rows_of] > 0,
    )  # fmt: skip
    return found, len(users) - len(known)


def _numbers(rows: pa.Table, name: str) -> NDArray[np.float64]:
    return np.nan_to_num(rows[name].to_numpy().astype(np.float64))


def _rows(path: Path) -> pa.Table:
    source = open_source(path, frozenset((*COLUMNS, *PEOPLE)), frozenset(COLUMNS[2:]))
    missing = [repr(name) for name in COLUMNS if name not in source.columns]
    if not set(PEOPLE) & set(source.columns):
        missing.insert(1, "'user_id' or 'session_id'")
    if missing:
        raise IngestError(
            f"{path} has no column {', '.join(missing)}; it needs one line for each shown item, "
            f"with {', '.join(COLUMNS)}, and who saw it"
        )
    parts = []
    for chunk in source.chunks:
        checked = Checked(dict(chunk.columns), chunk.rows)
        columns = {name: checked.identifier(name) for name in COLUMNS[:2]}
        columns |= {name: checked.number(name) for name in COLUMNS[2:]}
        columns[Columns.USER_ID] = person(checked)[Columns.USER_ID]
        wrong = [(chunk.locate(row)[0], reason) for row, reason in checked.wrong_rows()]
        wrong += [(bad.line, bad.reason) for bad in chunk.bad]
        if wrong:
            line, reason = min(wrong)
            raise IngestError(f"{path}, line {line}: {reason}")
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
