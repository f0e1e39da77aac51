"""From when until when an item may be recommended, from the warehouse to the snapshot."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.publishing.histories import read_catalogue
from recsys.settings import Settings
from recsys.snapshot import write
from recsys.snapshot.catalogue import ALWAYS, WITHOUT_END, Catalogue
from recsys.snapshot.full import take_full_snapshot
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.sequences import microseconds
from recsys.snapshot.targets import find_targets
from recsys.warehouse.roles import WRITER, grant_roles
from recsys.warehouse.windows import open_window
from tests.snapshot.warehouse_rows import START, add_feedback, add_items, add_users, at


def test_a_time_is_inside_from_the_start_and_before_the_end() -> None:
    day = timedelta(days=1)
    catalogue = Catalogue.build(
        list("abcd"), list("abcd"), available=[True, True, True, False],
        available_from=[None, START, START, None], available_until=[None, None, START + day, None],
    )  # fmt: skip
    start, end = microseconds(START), microseconds(START + day)
    inside = [catalogue.available_at(time).tolist() for time in (start - 1, start, end - 1, end)]
    assert inside == [
        [True, False, False, False], [True, True, True, False], [True, True, True, False],
        [True, True, False, False],
    ]  # fmt: skip
    assert catalogue.timed.tolist() == [1, 2]
    assert catalogue.within_its_time([-1, 2], [start, end]).tolist() == [True, False]
    assert catalogue.take([2, 0]).available_until.tolist() == [end, WITHOUT_END]


def test_events_before_or_after_the_time_of_their_item_are_no_targets(
    warehouse: sa.Engine, settings: Settings
) -> None:
    add_items(warehouse, "news", available_from=at(10), available_until=at(20))
    add_items(warehouse, "book")
    add_users(warehouse, "ann", "bob", "cid", "dan")
    add_feedback(warehouse, [("ann", "news", 9), ("bob", "news", 10), ("cid", "news", 20)])
    add_feedback(warehouse, [("dan", "book", 30)])
    ref = take_full_snapshot(warehouse, open_window(warehouse, "nightly", "run"), settings)
    snapshot = read_snapshot(ref)
    catalogue, events = snapshot.catalogue(), snapshot.sequences()
    assert catalogue.available_from.tolist() == [ALWAYS, microseconds(at(10))]
    assert catalogue.available_until.tolist() == [WITHOUT_END, microseconds(at(20))]
    chosen = events.occurred_at[find_targets(events).chosen]
    assert sorted(chosen.tolist()) == [microseconds(at(10)), microseconds(at(30))]
    with warehouse.connect() as connection:
        published = read_catalogue(connection)
    assert published.available_until.tolist() == catalogue.available_until.tolist()


def test_a_snapshot_of_an_older_release_has_items_without_times(
    warehouse: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = pa.schema([field for field in write._ITEMS_SCHEMA if not field.name.startswith("available_")])
    for name in ("rest_days", "variant_of"):
        old = old.remove(old.get_field_index(name))
    monkeypatch.setattr(write, "_ITEMS_SCHEMA", old)
    add_items(warehouse, "a", available_until=at(-10))
    add_users(warehouse, "ann")
    add_feedback(warehouse, [("ann", "a", 1), ("ann", "a", 2)])
    ref = take_full_snapshot(warehouse, open_window(warehouse, "nightly", "run"), settings)
    snapshot = read_snapshot(ref)
    assert len(snapshot.catalogue().timed) == len(snapshot.catalogue().variants) == 0
    assert find_targets(snapshot.sequences()).chosen.tolist() == [True, False]


@pytest.mark.parametrize(
    ("start", "end", "constraint"),
    [
        ("2026-01-02", "2026-01-01", "items_available_until_is_after_available_from"),
        ("2026-01-01", "2026-01-01", "items_available_until_is_after_available_from"),
        (None, "infinity", "items_available_until_is_in_years_1_to_9999"),
        ("-infinity", None, "items_available_from_is_in_years_1_to_9999"),
        (None, "20000-01-01", "items_available_until_is_in_years_1_to_9999"),
    ],
)
def test_times_that_mean_nothing_are_refused(
    warehouse: sa.Engine, start: str | None, end: str | None, constraint: str
) -> None:
    add_items(warehouse, "a")
    with pytest.raises(sa.exc.IntegrityError, match=constraint), warehouse.begin() as connection:
        connection.execute(
            sa.text("UPDATE items SET available_from = CAST(:s AS timestamptz), available_until = :e"),
            {"s": start, "e": end},
        )


def test_an_application_may_say_when_its_items_are_available(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        grant_roles(connection)
        for column in ("available_from", "available_until"):
            statement = "SELECT has_column_privilege(%s, 'items', %s, 'INSERT, UPDATE')"
            assert connection.exec_driver_sql(statement, (WRITER, column)).scalar()


def test_the_latest_time_that_is_allowed_survives_the_snapshot(
    warehouse: sa.Engine, settings: Settings
) -> None:
    add_items(warehouse, "a", available_until=datetime.fromisoformat("9999-12-31T23:59:59.999999+00:00"))
    add_users(warehouse, "ann")
    add_feedback(warehouse, [("ann", "a", 1), ("ann", "a", 2)])
    ref = take_full_snapshot(warehouse, open_window(warehouse, "nightly", "run"), settings)
    until = read_snapshot(ref).catalogue().available_until
    assert np.array_equal(until, [253_402_300_799_999_999])
