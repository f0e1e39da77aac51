import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.warehouse.files import line_file
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.windows import open_window
from tests.warehouse.ingest.loading import CSV, HEADER, TIME, Load, rows


def test_a_file_loaded_twice_counts_its_events_once(load: Load, warehouse: sa.Engine) -> None:
    load(CSV)
    again = load(CSV)
    assert (again.read, again.inserted, again.duplicates) == (1, 0, 1)
    assert len(rows(warehouse)) == 1


def test_an_event_id_twice_in_one_file_counts_once(load: Load) -> None:
    summary = load(CSV + CSV.splitlines()[1] + "\n")
    assert (summary.read, summary.inserted, summary.duplicates) == (2, 1, 1)


def test_existing_events_between_new_ones_are_skipped(
    load: Load, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 700)
    lines = [f"e{n},u{n % 7},i,view,,,{TIME}\n" for n in range(200)]
    there = [lines[n] for n in (3, 60, 61, 150)]
    load(HEADER + "".join(there))
    summary = load(HEADER + "".join(lines))
    assert (summary.read, summary.inserted, summary.duplicates) == (200, 196, 4)
    assert summary.new_users == len(
        {f"u{n % 7}" for n in range(200)} - {f"u{n % 7}" for n in (3, 60, 61, 150)}
    )
    loaded = [row.event_id for row in rows(warehouse)]
    assert loaded[4:] == [f"e{n}" for n in range(200) if n not in (3, 60, 61, 150)]


def test_events_without_id_get_one_from_their_content(load: Load, warehouse: sa.Engine) -> None:
    content = f"user_id,item_id,event_type,occurred_at\nu,i,view,{TIME}\nu,j,view,{TIME}\n"
    assert load(content).inserted == 2
    assert load(content).duplicates == 2
    assert load(content.replace(TIME, "2026-01-31T19:30:00+01:00")).duplicates == 2
    line = json.dumps({"user_id": "u", "item_id": "i", "event_type": "view", "occurred_at": TIME})
    assert load(line, "f.jsonl").duplicates == 1
    assert len({row.event_id for row in rows(warehouse)}) == 2


def test_an_interrupted_load_can_be_started_again(
    load: Load, warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 700)
    content = HEADER + "".join(f"e{n},u,i,view,,,{TIME}\n" for n in range(100))

    def interrupt(done: int, _: int) -> None:
        if done > 1_500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(content, progress=interrupt)
    loaded = len(rows(warehouse))
    assert 0 < loaded < 100
    again = load(content)
    assert (again.inserted, again.duplicates) == (100 - loaded, loaded)
    assert [row.event_id for row in rows(warehouse)] == [f"e{n}" for n in range(100)]


def test_two_concurrent_loads_of_one_file_insert_every_row_once(
    warehouse: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 2_000)
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    lines = [f"e{n},u{n % 30},i,view,,,{TIME}\n" for n in range(400)]
    paths[0].write_text(HEADER + "".join(lines))
    paths[1].write_text(HEADER + "".join(reversed(lines)))
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(lambda path: ingest_file(warehouse, "feedback", path), paths))
    assert sum(summary.inserted for summary in loaded) == 400
    assert sum(summary.duplicates for summary in loaded) == 400
    assert sum(summary.new_users for summary in loaded) == 30


def test_an_event_in_quarantine_is_not_loaded_again_but_its_correction_is(
    load: Load, warehouse: sa.Engine
) -> None:
    content = HEADER + f"a,u,i,rating,9,,{TIME}\n"
    load(content)
    window = open_window(warehouse, "nightly", "1")
    with warehouse.begin() as connection:
        connection.execute(
            sa.text(
                "WITH moved AS (DELETE FROM feedback RETURNING *)"
                " INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)"
                " SELECT feedback_id, :id, '{value_out_of_range}', user_id, transaction_id, to_jsonb(moved)"
                " FROM moved"
            ),
            {"id": window.window_id},
        )
    again = load(content)
    assert (again.duplicates, again.in_quarantine) == (1, 1)
    corrected = load(content.replace(",9,", ",4,"))
    assert (corrected.inserted, corrected.in_quarantine) == (1, 0)
