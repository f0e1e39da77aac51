from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.warehouse.files import line_file
from recsys.warehouse.ingest import IngestSummary, ingest_file

HEADER = "item_id\ttitle\tdescription\n"


def load(engine: sa.Engine, folder: Path, content: str) -> IngestSummary:
    path = folder / "items.tsv"
    path.write_text(content, newline="")
    return ingest_file(engine, "items", path)


def titles(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT item_id, title FROM items"))
        return {row.item_id: row.title for row in rows}


@pytest.mark.parametrize("block_bytes", [40, line_file.BLOCK_BYTES])
@pytest.mark.parametrize(
    "names",
    [
        {"a": "Plain", "b": '"Odd Ned" Quill', "c": '12" Remix', "d": '"Heroes', "e": 'five"', "f": "Last"},
        {"a": '"Heroes', "b": "Middle", "c": 'So called "Z"', "d": 'Anthem"', "e": "End"},
        {"a": '"Heroes', "b": "Middle", "c": "Other", "d": 'Anthem"', "e": "End"},
        {"a": '"', "b": '"', "c": "x"},
        {"a": '"Heroes"', "b": "Middle"},
    ],
)
def test_quotes_in_a_file_without_quoting_are_text_and_swallow_no_row(
    warehouse: sa.Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: dict[str, str],
    block_bytes: int,
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", block_bytes)
    summary = load(warehouse, tmp_path, HEADER + "".join(f"{n}\t{t}\tabout {n}\n" for n, t in names.items()))
    assert (summary.read, summary.inserted, summary.rejected) == (len(names), len(names), 0)
    assert titles(warehouse) == names


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fields_that_need_quoting_are_unquoted(warehouse: sa.Engine, tmp_path: Path, end: str) -> None:
    rows = [
        'z\tlast\t"two\nlines"',
        'a\t"x\ty"\tone',
        'b\t"two\nlines"\ttwo',
        'c\t"a ""b"" c"\tthree',
        "d\tplain\tfour",
    ]
    summary = load(warehouse, tmp_path, end.join([HEADER.strip(), *rows]))
    assert (summary.inserted, summary.rejected) == (5, 0)
    assert titles(warehouse) == {"z": "last", "a": "x\ty", "b": "two\nlines", "c": 'a "b" c', "d": "plain"}


def test_a_file_that_encloses_its_header_encloses_every_field(warehouse: sa.Engine, tmp_path: Path) -> None:
    load(warehouse, tmp_path, '"item_id"\t"title"\n"a"\t"Heroes"\n"b"\t"two\nlines"\n"c"\t""\n')
    assert titles(warehouse) == {"a": "Heroes", "b": "two\nlines", "c": ""}


def test_a_line_with_too_few_fields_and_a_quote_swallows_no_row(warehouse: sa.Engine, tmp_path: Path) -> None:
    summary = load(warehouse, tmp_path, HEADER + 'a\t"Heroes\nb\tMiddle\tm\nc\tAnthem"\tc\n')
    assert (summary.inserted, summary.rejected) == (2, 1)
    assert titles(warehouse) == {"b": "Middle", "c": 'Anthem"'}
