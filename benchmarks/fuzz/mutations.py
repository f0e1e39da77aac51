"""Change values, rows and bytes as tools, countries and accidents do."""

from collections.abc import Callable
from random import Random
from typing import Any

from benchmarks.fuzz.corpus import Row
from benchmarks.fuzz.values import BYTES, POOLS


def mutate_rows(random: Random, rows: list[Row], *, most: int = 4) -> None:
    """Change a few values, and sometimes repeat, drop or move rows or columns."""
    for _ in range(random.randint(0, most)):
        if not rows:
            return
        _ROW_CHANGES[random.randrange(len(_ROW_CHANGES))](random, rows)


def value_for(random: Random, column: str) -> Any:
    """Return a strange value for a column."""
    pool = POOLS[column] if random.random() < 0.9 else POOLS[random.choice(tuple(POOLS))]
    return random.choice(pool)


def mutate_bytes(random: Random, content: bytes, *, most: int = 3) -> bytes:
    """Insert, replace, remove, repeat or cut bytes."""
    for _ in range(random.randint(1, most)):
        at = random.randint(0, len(content))
        to = min(len(content), at + random.choice((0, 1, 1, 2, 8, 64)))
        content = random.choice(
            (
                content[:at] + random.choice(BYTES) + content[at:],
                content[:at] + random.choice(BYTES) + content[to:],
                content[:at] + content[to:],
                content[:to] + content[at:],
                content[:at] + bytes([random.randrange(256)]) + content[to:],
                content[:at] if random.random() < 0.2 else content,
                content.replace(b"\n", b"\r\n", random.choice((1, -1))),
                content.replace(b'"', b"'") if random.random() < 0.2 else content,
            )
        )
    return content


def _change_value(random: Random, rows: list[Row]) -> None:
    row = random.choice(rows)
    column = random.choice(list(row))
    if column in POOLS:
        row[column] = value_for(random, column)


def _change_column(random: Random, rows: list[Row]) -> None:
    column = random.choice(list(rows[0]))
    if column in POOLS:
        for row in rows:
            row[column] = value_for(random, column) if random.random() < 0.7 else row[column]


def _repeat_row(random: Random, rows: list[Row]) -> None:
    rows.insert(random.randint(0, len(rows)), dict(random.choice(rows)))


def _repeat_key(random: Random, rows: list[Row]) -> None:
    one, other = random.choice(rows), random.choice(rows)
    key = next(iter(one))
    other[key] = one[key]


def _drop_column(random: Random, rows: list[Row]) -> None:
    column = random.choice(list(rows[0]))
    for row in rows:
        row.pop(column, None)


def _rename_column(random: Random, rows: list[Row]) -> None:
    column = random.choice(list(rows[0]))
    name = random.choice((column.upper(), f" {column} ", f"{column}2", column.title(), "extra", "userId"))
    for row in rows:
        if column in row:
            row[name] = row.pop(column)


def _shuffle_columns(random: Random, rows: list[Row]) -> None:
    order = list(rows[0])
    random.shuffle(order)
    rows[:] = [{name: row[name] for name in order if name in row} for row in rows]


_ROW_CHANGES: tuple[Callable[[Random, list[Row]], None], ...] = (
    *(_change_value,) * 8, *(_change_column,) * 3, _repeat_row, _repeat_key, _drop_column, _rename_column,
    _shuffle_columns,
)  # fmt: skip
