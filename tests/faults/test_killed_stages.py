"""A stage that is killed at any point and run again gives the result of an undisturbed run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from recsys.settings import Settings
from recsys.snapshot.read import read_snapshot
from recsys.validation.quarantine import list_quarantined
from recsys.validation.validate import validate_window
from recsys.warehouse.windows import open_window, reconcile_window
from tests.faults.conftest import add_fresh
from tests.faults.dying import Point, die_in
from tests.faults.stages import (
    open_first,
    release_first,
    take_first,
    take_first_reservoir,
    take_second,
    validate_first,
)


def rows(engine: sa.Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def state(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Return what consumers and analysts see, without transaction ids and clock times."""
    return {
        "feedback": rows(engine, "SELECT event_id FROM feedback ORDER BY feedback_id"),
        "quarantine": rows(
            engine,
            "SELECT feedback ->> 'event_id', window_id, reasons, status FROM quarantine ORDER BY feedback_id",
        ),
        "results": rows(
            engine,
            "SELECT window_id, expectation, success, severity, observed, expected FROM validation_results"
            " ORDER BY window_id, expectation",
        ),
        "windows": rows(
            engine,
            "SELECT consumer, run_key, arrived, valid, quarantined, duplicates, erased, late, out_of_order"
            " FROM windows ORDER BY window_id",
        ),
    }


@pytest.mark.parametrize(
    "point",
    [
        Point("before", "warehouse_horizon"),
        Point("after", "INSERT INTO windows"),
        Point("before", "recsys.warehouse.windows:_window"),  # after the commit
    ],
    ids=str,
)
def test_open_window(stocked: sa.Engine, undisturbed: sa.Engine, settings: Settings, point: Point) -> None:
    die_in(point, open_first, settings)
    windows = [(open_window(engine, "nightly", "1"), engine) for engine in (stocked, undisturbed)]
    for window, engine in windows:
        reconcile_window(engine, window.window_id)
    assert state(stocked) == state(undisturbed)
    following = open_window(stocked, "nightly", "2")
    assert (following.lower_transaction_id, following.arrived) == (windows[0][0].upper_transaction_id, 0)


@pytest.mark.parametrize(
    "point",
    [
        Point("after", "CREATE TEMP TABLE broken_rules"),  # in the middle of judging
        Point("after", "INSERT INTO row_violations"),
        Point("before", "recsys.validation.validate:settle_window"),  # after Great Expectations
        Point("after", "INSERT INTO quarantine"),  # in the middle of settling
        Point("after", "recsys.validation.validate:_store"),  # rows are moved, Data Docs are written
        Point("before", "recsys.validation.validate:_report"),  # after the commit
    ],
    ids=str,
)
def test_validate_window(
    stocked: sa.Engine, undisturbed: sa.Engine, settings: Settings, elsewhere: Settings, point: Point
) -> None:
    window = open_first(settings)
    die_in(point, validate_first, settings)
    report = validate_window(stocked, window, settings, settings.home / "data_docs")
    expected = validate_window(
        undisturbed, open_window(undisturbed, "nightly", "1"), elsewhere, elsewhere.home / "data_docs"
    )
    assert replace(report, data_docs="") == replace(expected, data_docs="")
    for engine in (stocked, undisturbed):
        assert reconcile_window(engine, 1).balanced
    assert state(stocked) == state(undisturbed)


@pytest.mark.parametrize(
    "point", [Point("after", "INSERT INTO feedback"), Point("before", "COMMIT")], ids=str
)
def test_release(stocked: sa.Engine, settings: Settings, point: Point) -> None:
    open_first(settings)
    validate_first(settings)
    before = state(stocked)
    die_in(point, release_first, settings)
    assert state(stocked) == before
    release_first(settings)
    assert open_window(stocked, "nightly", "2").arrived == 1
    assert len(list_quarantined(stocked)) == 1


@pytest.mark.parametrize("kind", ["full", "micro"])
@pytest.mark.parametrize(
    "point",
    [
        Point("before", "recsys.snapshot.interactions:InteractionsWriter.write"),
        Point("after", "recsys.snapshot.store:Folder.write_manifest"),  # before the folder is renamed
        Point("before", "recsys.snapshot.{kind}:record_snapshot"),  # after the folder is renamed
    ],
    ids=str,
)
def test_take_snapshot(
    stocked: sa.Engine, settings: Settings, elsewhere: Settings, point: Point, kind: str
) -> None:
    open_first(settings)
    die_in(replace(point, what=point.what.format(kind=kind)), take_first, settings, kind)
    assert rows(stocked, "SELECT * FROM snapshots") == []
    ref = take_first(settings, kind)
    expected = take_first(elsewhere, kind)
    assert ref.digest == expected.digest
    assert read_snapshot(ref).interactions().equals(read_snapshot(expected).interactions())
    assert [folder.name for folder in Path(settings.snapshots, kind).iterdir()] == [Path(ref.uri).name]
    assert rows(stocked, "SELECT uri, digest, rows FROM snapshots WHERE snapshot_id = 1") == [
        (ref.uri, ref.digest, ref.rows)
    ]


def snapshots_of(engine: sa.Engine, settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return the events of the recorded snapshots by kind, and check that no other folder exists."""
    recorded = rows(engine, "SELECT uri, digest FROM snapshots ORDER BY snapshot_id")
    assert {uri for uri, _ in recorded} == {
        str(folder) for folder in Path(settings.snapshots).glob("*/*") if folder.is_dir()
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for uri, digest in recorded:
        snapshot = read_snapshot(uri)
        assert snapshot.manifest.digest == digest
        found.setdefault(snapshot.manifest.kind, []).extend(snapshot.interactions().to_pylist())
    return found


@pytest.mark.parametrize(
    "point",
    [
        Point("before", "recsys.snapshot.reservoir:sample_reservoir"),  # the full snapshot is there
        Point("before", "recsys.snapshot.reservoir:write_events"),
        Point("after", "recsys.snapshot.store:Folder.write_manifest", nth=2),  # before it is renamed
        Point("before", "recsys.snapshot.reservoir:record_snapshot"),
    ],
    ids=str,
)
def test_write_reservoir(stocked: sa.Engine, settings: Settings, elsewhere: Settings, point: Point) -> None:
    open_first(settings)
    die_in(point, take_first_reservoir, settings)
    ref = take_first_reservoir(settings)
    undisturbed = take_first_reservoir(elsewhere)
    assert ref.digest == undisturbed.digest
    assert read_snapshot(ref).interactions().equals(read_snapshot(undisturbed).interactions())
    assert [folder.name for folder in Path(settings.snapshots, "reservoir").iterdir()] == [Path(ref.uri).name]


@pytest.mark.parametrize("reservoir", [True, False], ids=["reservoir", "no reservoir"])
@pytest.mark.parametrize(
    "point",
    [
        Point("before", "recsys.snapshot.micro:find_replay"),
        Point("before", "recsys.snapshot.replay:Replay._sample"),  # fresh events are written
        Point("before", "recsys.snapshot.micro:write_recent_replay"),
        Point("before", "recsys.snapshot.micro:_write_recent_replay"),
        Point("after", "recsys.snapshot.micro:_write_recent_replay"),  # before the snapshot itself is there
        Point("before", "recsys.snapshot.micro:record_snapshot", nth=2),
    ],
    ids=str,
)
def test_take_snapshot_with_replay(
    stocked: sa.Engine,
    undisturbed: sa.Engine,
    settings: Settings,
    elsewhere: Settings,
    point: Point,
    reservoir: bool,
) -> None:
    there = elsewhere.model_copy(
        update={"warehouse_url": SecretStr(undisturbed.url.render_as_string(hide_password=False))}
    )
    for engine, own in ((stocked, settings), (undisturbed, there)):
        open_first(own)
        take_first_reservoir(own) if reservoir else take_first(own, "full")
        add_fresh(engine)
    die_in(point, take_second, settings)
    take_second(settings)
    take_second(there)
    found = snapshots_of(stocked, settings)
    assert found == snapshots_of(undisturbed, there)
    purposes = {row["purpose"] for row in found["micro"]}
    assert purposes == {"fresh", "history", "replay"}
    assert {row["purpose"] for row in found["learned"]} == {"replay"}


def test_an_opener_that_was_killed_leaves_no_lock_behind(stocked: sa.Engine, settings: Settings) -> None:
    die_in(Point("after", "INSERT INTO windows"), open_first, settings)
    impatient = sa.create_engine(stocked.url, connect_args={"options": "-c lock_timeout=5s"})
    assert open_window(impatient, "nightly", "another run").arrived == 12
    impatient.dispose()
