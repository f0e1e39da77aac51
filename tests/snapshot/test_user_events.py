import numpy as np
import pyarrow as pa
import pytest

from recsys.columns import Columns
from recsys.snapshot import user_events
from recsys.snapshot.interactions import SCHEMA
from recsys.snapshot.user_events import LatestEvents, events_of_users


def stream(rows: int) -> pa.Table:
    rng = np.random.default_rng(1)
    columns = {field.name: pa.nulls(rows, field.type) for field in SCHEMA}
    columns[Columns.FEEDBACK_ID] = pa.array(rng.permutation(rows))
    columns[Columns.USER_KEY] = pa.array([f"user {number}" for number in rng.integers(0, 9, rows)])
    # Many happen at the same time, and then log order decides.
    columns[Columns.OCCURRED_AT] = pa.array(rng.integers(0, 20, rows)).cast(pa.timestamp("us", tz="UTC"))
    return pa.table(columns, schema=SCHEMA)


@pytest.mark.parametrize("cut_at", [1_000_000, 0], ids=["at the end", "all the time"])
def test_the_latest_events_of_each_user_are_kept(cut_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_events, "_CUT_AT_ROWS", cut_at)
    events = stream(500)
    latest = LatestEvents(4)
    for start in range(0, 500, 50):
        latest.add(events.slice(start, 50))
    frame = events.to_pandas().sort_values([Columns.OCCURRED_AT, Columns.FEEDBACK_ID])
    expected = frame.groupby(Columns.USER_KEY).tail(4)[Columns.FEEDBACK_ID]
    assert sorted(latest.table()[Columns.FEEDBACK_ID].to_pylist()) == sorted(expected)


def test_no_events_give_an_empty_table() -> None:
    latest = LatestEvents(4)
    latest.add(SCHEMA.empty_table())
    assert latest.table().num_rows == 0


def test_events_of_some_users_or_of_all_others() -> None:
    events = stream(100)
    some = pa.array(["user 1", "user 4", "nobody"])
    theirs, others = events_of_users(events, some), events_of_users(events, some, exclude=True)
    assert set(theirs[Columns.USER_KEY].to_pylist()) == {"user 1", "user 4"}
    assert theirs.num_rows + others.num_rows == 100
    assert not set(others[Columns.USER_KEY].to_pylist()) & {"user 1", "user 4"}
