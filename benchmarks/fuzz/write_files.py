"""Write rows as CSV, TSV, JSON Lines and Parquet, as different tools would."""

import csv
import gzip
import io
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.fuzz import corpus
from benchmarks.fuzz.corpus import Row
from benchmarks.fuzz.inputs import Input
from benchmarks.fuzz.mutations import mutate_bytes, mutate_rows

_TABLES = ("feedback", "feedback", "feedback", "items", "items", "users", "impressions")
_BYTES_CHANGED = 0.4
_ZONES = (None, None, None, "UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata")
_UNITS = ("seconds", "seconds", "seconds", "milliseconds", "microseconds")


def make_file(random: Random, kind: str) -> Input:
    """Return a mutated file of this kind."""
    table = random.choice(_TABLES)
    rows = corpus.rows(random, table, random.randint(1, 12))
    mutate_rows(random, rows)
    options: dict[str, Any] = {"table": table}
    if table in ("feedback", "impressions"):
        options |= {"assume_timezone": random.choice(_ZONES), "time_unit": random.choice(_UNITS)}
    # Small files have several blocks as large ones have; the product reads 8 MiB at a time.
    options["block_bytes"] = random.choice((None, 40, 100, 300))
    content = _WRITERS[kind](random, rows)
    if kind != "parquet" and random.random() < _BYTES_CHANGED:
        content = mutate_bytes(random, content)
    elif kind == "parquet" and random.random() < 0.1:
        content = mutate_bytes(random, content, most=1)
    name = f"{table}.{kind}"
    if kind != "parquet" and random.random() < 0.05:
        content = gzip.compress(content, mtime=0)
        content = content[: random.randint(1, len(content))] if random.random() < 0.2 else content
        name += random.choice((".gz", ""))
    return Input(kind, name, content, options)


def _csv(random: Random, rows: list[Row]) -> bytes:
    delimiter = random.choice((",",) * 6 + (";", "\t", "|"))
    return _delimited(
        random, rows, delimiter, random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    )


def _tsv(random: Random, rows: list[Row]) -> bytes:
    if random.random() < 0.3:
        return _delimited(random, rows, "\t", random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    names = _names(rows)
    lines = ["\t".join(names)]
    # Most public data has no quoting: what would need it cannot be written.
    for row in rows:
        cells = [_cell(row.get(name)) for name in names]
        lines.append(
            "\t".join(cell.replace("\t", " ").replace("\n", " ").replace("\r", " ") for cell in cells)
        )
    return _encoded(random, "\n".join(lines) + "\n")


def _delimited(random: Random, rows: list[Row], delimiter: str, quoting: int) -> bytes:
    names = _names(rows)
    buffer = io.StringIO()
    writer = csv.writer(
        buffer, delimiter=delimiter, quoting=quoting, lineterminator=random.choice(("\n", "\n", "\r\n"))
    )  # type: ignore[arg-type]
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return _encoded(random, buffer.getvalue())


def _names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row)) or ["item_id"]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _encoded(random: Random, text: str) -> bytes:
    if random.random() < 0.05:
        text = "\ufeff" + text
    if random.random() < 0.1:
        text = text.removesuffix("\n").removesuffix("\r")
    if random.random() < 0.05:
        return text.encode(random.choice(("latin-1", "cp1252", "utf-16")), "replace")
    return text.encode("utf-8", "surrogatepass")


def _jsonl(random: Random, rows: list[Row]) -> bytes:
    ascii_only = random.random() < 0.3
    leave_out = random.random() < 0.3
    lines = []
    for row in rows:
        kept = {name: value for name, value in row.items() if value is not None or not leave_out}
        times = ("occurred_at", "shown_at")
        if random.random() < 0.5:
            kept |= {name: _number_or(kept[name]) for name in times if isinstance(kept.get(name), str)}
        lines.append(json.dumps(kept, ensure_ascii=ascii_only, separators=random.choice(((",", ":"), None))))
    if random.random() < 0.1:
        lines.insert(random.randint(0, len(lines)), random.choice(("", " ", "\t")))
    if random.random() < 0.05 and len(lines) > 1:
        at = random.randrange(len(lines) - 1)
        lines[at : at + 2] = random.choice(([lines[at] + lines[at + 1], ""], [lines[at] + lines[at + 1]]))
    return _encoded(random, random.choice(("\n", "\n", "\n", "\r\n")).join(lines) + "\n")


def _number_or(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parquet(random: Random, rows: list[Row]) -> bytes:
    try:
        return _parquet_of(random, rows, _array)
    except (pa.ArrowException, UnicodeEncodeError):  # not every type can be written, such as an empty struct
        return _parquet_of(random, rows, _as_text)


def _parquet_of(random: Random, rows: list[Row], array: Callable[[Random, list[Any]], pa.Array]) -> bytes:
    columns = {name.strip(): array(random, [row.get(name) for row in rows]) for name in _names(rows)}
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns),
        sink,
        row_group_size=random.choice((1, 3, 1000)),
        store_schema=random.random() < 0.8,
    )
    return bytes(sink.getvalue())


def _array(random: Random, values: list[Any]) -> pa.Array:
    """Return a column in a type that fits the values, or else as text."""
    shapes = list(_SHAPES)
    random.shuffle(shapes)
    for shape in [_inferred, *shapes] if random.random() < 0.5 else shapes:
        try:
            return shape(random, values)
        except (
            pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError, AttributeError,
            OSError,  # a time too large for the platform
        ):  # fmt: skip
            continue
    return _as_text(random, values)


def _inferred(_: Random, values: list[Any]) -> pa.Array:
    return pa.array(values)


def _as_text(random: Random, values: list[Any]) -> pa.Array:
    texts = [None if value is None else _cell(value).encode("utf-8", "replace").decode() for value in values]
    return pa.array(texts, random.choice((pa.string(), pa.large_string(), pa.string_view())))


def _as_bytes(random: Random, values: list[Any]) -> pa.Array:
    encoded = [None if value is None else _cell(value).encode("utf-8", "surrogatepass") for value in values]
    return pa.array(encoded, random.choice((pa.binary(), pa.large_binary())))


def _as_dictionary(random: Random, values: list[Any]) -> pa.Array:
    return _as_text(random, values).cast(pa.string()).dictionary_encode()


def _as_number(random: Random, values: list[Any]) -> pa.Array:
    kind = random.choice((pa.float64(), pa.float32(), pa.int64(), pa.int32(), pa.uint64(), pa.float16()))
    numbers = [None if value is None else float(value) for value in values]
    return pa.array([n if n is None or pa.types.is_floating(kind) else int(n) for n in numbers], kind)


def _as_decimal(random: Random, values: list[Any]) -> pa.Array:
    scale = random.choice((0, 2, 6))
    exact = [None if value is None else round(Decimal(str(value)), scale) for value in values]
    return pa.array(exact, random.choice((pa.decimal128(30, scale), pa.decimal256(50, scale))))


def _as_time(random: Random, values: list[Any]) -> pa.Array:
    zone = random.choice((None, "UTC", "Europe/Paris", "+05:30"))
    kind = random.choice((pa.date32(), *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns"))))
    moments = [None if value is None else _moment(value) for value in values]
    return pa.array([m and (m.date() if pa.types.is_date(kind) else m) for m in moments], kind)


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(float(value), UTC).replace(tzinfo=None)
    except (TypeError, ValueError):
        return datetime.fromisoformat(value).replace(tzinfo=None)


def _as_uuid(_: Random, values: list[Any]) -> pa.Array:
    ids = [None if value is None else uuid.uuid5(uuid.NAMESPACE_URL, str(value)).bytes for value in values]
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(ids, pa.binary(16)))


def _as_list(random: Random, values: list[Any]) -> pa.Array:
    wrapped = [value if isinstance(value, list) or value is None else [str(value), None] for value in values]
    return pa.array(wrapped, random.choice((None, pa.large_list(pa.string()))))


def _as_struct(random: Random, values: list[Any]) -> pa.Array:
    extra = random.choice(
        (Decimal("19.90"), datetime(2026, 1, 31, tzinfo=UTC), b"x", 5, float("nan"), "H&amp;M", None)
    )
    structs = [None if value is None else {"given": _cell(value), "extra": extra} for value in values]
    if random.random() < 0.3:
        texts = [s and [(name, str(entry)) for name, entry in s.items()] for s in structs]
        return pa.array(texts, pa.map_(pa.string(), pa.string()))
    return pa.array(structs)


def _as_flag(_: Random, values: list[Any]) -> pa.Array:
    return pa.array([None if value is None else value in (True, "true", 1) for value in values])


_SHAPES: tuple[Callable[[Random, list[Any]], pa.Array], ...] = (
    _as_text, _as_text, _as_text, _as_bytes, _as_dictionary, _as_number, _as_number, _as_decimal, _as_time,
    _as_time, _as_uuid, _as_list, _as_struct, _as_flag,
)  # fmt: skip
_WRITERS: dict[str, Callable[[Random, list[Row]], bytes]] = {
    "csv": _csv, "tsv": _tsv, "jsonl": _jsonl, "parquet": _parquet,
}  # fmt: skip
