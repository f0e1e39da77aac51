from datetime import UTC, datetime

import numpy as np
import pytest

from recsys.columns import PURPOSES, Purpose
from recsys.errors import SnapshotError
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences, microseconds


@pytest.fixture
def sequences(event_types: EventTypes) -> Sequences:
    """Items by user: ann 1 2 3 4 (2 and 3 at the same time), bob none, cid 5 6."""
    return Sequences.build(
        user_keys=["ann", "bob", "cid"],
        user_index=[2, 0, 0, 2, 0, 0],
        item_index=[6, 4, 3, 5, 2, 1],
        event_type=event_types.lookup(["like", "like", "dislike", "rating", "like", "rating"]),
        value=[np.nan, np.nan, np.nan, 5.0, np.nan, 0.5],
        occurred_at=[70, 40, 20, 60, 20, 10],
        feedback_id=[6, 5, 4, 3, 2, 1],
        event_types=event_types,
    )


def items(sequences: Sequences) -> list[list[int]]:
    return [part.tolist() for part in np.split(sequences.item_index, sequences.offsets[1:-1])]


def test_events_are_in_time_order_and_ties_in_log_order(sequences: Sequences) -> None:
    assert items(sequences) == [[1, 2, 3, 4], [], [5, 6]]
    assert sequences.sentiment.tolist() == [-1, 1, -1, 1, 1, 1]
    assert sequences.weight.tolist() == [0, 1, 0, 1, 1, 1]
    np.testing.assert_allclose(sequences.value, [0, np.nan, np.nan, np.nan, 1, np.nan])
    assert (sequences.users, sequences.events) == (3, 6)


def test_row_weight_scales_the_weight_of_the_type(event_types: EventTypes) -> None:
    built = Sequences.build(
        user_keys=["ann"],
        user_index=[0, 0],
        item_index=[0, 1],
        event_type=event_types.lookup(["view", "view"]),
        value=[np.nan, np.nan],
        occurred_at=[1, 2],
        feedback_id=[1, 2],
        event_types=event_types,
        row_weight=[0.5, 1.0],
        purpose=[PURPOSES.index(Purpose.FRESH), PURPOSES.index(Purpose.HISTORY)],
    )
    np.testing.assert_allclose(built.weight, [0.15, 0.3])
    assert built.purpose.tolist() == [PURPOSES.index(Purpose.FRESH), PURPOSES.index(Purpose.HISTORY)]


def test_events_of_unknown_items_or_types_are_dropped(event_types: EventTypes) -> None:
    built = Sequences.build(
        user_keys=["ann"],
        user_index=[0, 0, 0],
        item_index=[-1, 1, 2],
        event_type=[0, -1, 0],
        value=[np.nan] * 3,
        occurred_at=[1, 2, 3],
        feedback_id=[1, 2, 3],
        event_types=event_types,
    )
    assert items(built) == [[2]]


def test_events_before_a_time_keep_every_user(sequences: Sequences) -> None:
    assert items(sequences.before(20)) == [[1], [], []]
    moment = datetime(1970, 1, 1, 0, 0, 0, 40, tzinfo=UTC)
    assert items(sequences.before(moment)) == [[1, 2, 3], [], []]


def test_last_keeps_the_latest_events(sequences: Sequences) -> None:
    assert items(sequences.last(2)) == [[3, 4], [], [5, 6]]
    assert items(sequences.last(0)) == [[], [], []]


def test_take_users_keeps_the_requested_order(sequences: Sequences) -> None:
    taken = sequences.take_users([2, 0, 2])
    assert taken.user_keys.tolist() == ["cid", "ann", "cid"]
    assert items(taken) == [[5, 6], [1, 2, 3, 4], [5, 6]]
    assert items(sequences.without_empty_users()) == [[1, 2, 3, 4], [5, 6]]
    assert sequences.take_users([]).users == 0


def test_a_prefix_has_the_events_before_an_event(sequences: Sequences) -> None:
    cases = sequences.prefixes([0, 3, 4, 5])
    assert items(cases) == [[], [1, 2, 3], [], [5]]
    assert cases.user_keys.tolist() == ["ann", "ann", "cid", "cid"]
    assert items(sequences.prefixes([3, 5], max_events=2)) == [[2, 3], [5]]
    assert sequences.prefixes([]).users == 0


def test_event_users_and_lengths(sequences: Sequences) -> None:
    assert sequences.event_users().tolist() == [0, 0, 0, 0, 2, 2]
    assert sequences.lengths.tolist() == [4, 0, 2]


def test_concat_joins_parts_user_by_user(sequences: Sequences) -> None:
    joined = Sequences.concat(
        [sequences.take_users([2]), Sequences.empty(["dan"]), sequences.take_users([0])]
    )
    assert joined.user_keys.tolist() == ["cid", "dan", "ann"]
    assert items(joined) == [[5, 6], [], [1, 2, 3, 4]]
    assert Sequences.concat([]).users == 0


def test_order_of_input_rows_does_not_matter(sequences: Sequences, event_types: EventTypes) -> None:
    generator = np.random.default_rng(0)
    rows = 500
    columns = {
        "user_index": generator.integers(0, 20, rows),
        "item_index": generator.integers(0, 30, rows),
        "event_type": generator.integers(0, len(event_types), rows),
        "value": generator.random(rows),
        "occurred_at": generator.integers(0, 50, rows),
        "feedback_id": np.arange(rows),
    }
    keys = [f"u{number}" for number in range(20)]
    built = Sequences.build(user_keys=keys, event_types=event_types, **columns)
    order = generator.permutation(rows)
    shuffled = Sequences.build(
        user_keys=keys, event_types=event_types, **{name: column[order] for name, column in columns.items()}
    )
    assert items(built) == items(shuffled)
    for user in range(20):
        mine = sorted(
            (columns["occurred_at"][row], row) for row in range(rows) if columns["user_index"][row] == user
        )
        assert items(built)[user] == [columns["item_index"][row] for _, row in mine]


def test_times_convert_without_rounding_and_need_a_zone() -> None:
    assert microseconds(datetime(2026, 9, 1, 0, 0, 0, 1, tzinfo=UTC)) % 1_000_000 == 1
    with pytest.raises(SnapshotError, match="without zone"):
        microseconds(datetime(2026, 9, 1))  # noqa: DTZ001


def test_arrays_of_inconsistent_length_are_refused(sequences: Sequences) -> None:
    with pytest.raises(SnapshotError, match="offsets"):
        Sequences.empty(["a"]).take_users([0]).__class__(
            **{**vars(sequences), "user_keys": np.array(["only one"], dtype=object)}
        )


def test_comments_stay_with_their_events_and_equal_ones_are_stored_once(event_types: EventTypes) -> None:
    def built(*comments: str | None) -> Sequences:
        return Sequences.build(
            user_keys=["ann", "bob"],
            user_index=[1, 0, 0, 1],
            item_index=[4, 3, 2, 1],
            event_type=event_types.lookup(["like"] * 4),
            value=[np.nan] * 4,
            occurred_at=[4, 3, 2, 1],
            feedback_id=[1, 2, 3, 4],
            event_types=event_types,
            comment=comments,
        )

    def texts(sequences: Sequences) -> list[str | None]:
        known = sequences.comments.to_pylist()
        return [known[row] if row >= 0 else None for row in sequences.comment]

    one, other, none = built("x", "y", " ", "x"), built(None, "z", "y", ""), built(None, None, None, None)
    assert texts(one) == [None, "y", "x", "x"]
    assert len(one.comments) == 2
    assert texts(one.where(one.item_index > 1)) == [None, "y", "x"]
    assert texts(one.take_users([1]).last(1)) == ["x"]
    assert texts(Sequences.concat([one, none, other])) == [
        *texts(one), *[None] * 4, "y", "z", None, None,
    ]  # fmt: skip
    assert texts(none) == [None] * 4
    assert "comments=" not in repr(one)
