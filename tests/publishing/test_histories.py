"""Users' histories as the model reads them, and consumed items."""

from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.publishing.histories import UserBatch, read_catalogue, read_histories
from recsys.publishing.staging import publishing_session, stage_users
from recsys.warehouse.statements import read_statement
from tests.publishing.shop import START, Shop

MAX_EVENTS = 3
ODD = ['comma, "quoted"', "new\nline", "{brace}", "back\\slash", "三体 🎉", "NULL", " "]


def read(
    shop: Shop, batch_users: int = 100, through: int | None = None, max_events: int = MAX_EVENTS
) -> tuple[list[str], list[UserBatch]]:
    """Return the item ids of the catalogue and the batches of all users."""
    with publishing_session(shop.engine) as connection:
        horizon = connection.scalar(sa.text(read_statement("publishing/compute_publication_horizon")))
        catalogue = read_catalogue(connection)
        users = stage_users(connection, everyone=True, since_transaction_id=0, at=START)
        batches = read_histories(
            connection,
            catalogue,
            shop.event_types(),
            last=users,
            batch_users=batch_users,
            max_events=max_events,
            through_transaction_id=horizon if through is None else through,
        )
        return catalogue.item_ids.tolist(), list(batches)


def read_items(shop: Shop, **options: int) -> tuple[list[list[str]], list[set[str]]]:
    """Return for each user in order the items the model reads, and the consumed items."""
    names, batches = read(shop, **options)
    histories: list[list[str]] = []
    consumed: list[set[str]] = []
    for batch in batches:
        offsets = batch.histories.offsets
        for row in range(batch.histories.users):
            items = batch.histories.item_index[offsets[row] : offsets[row + 1]]
            histories.append([names[item] for item in items])
            consumed.append({names[item] for item in batch.hidden_item[batch.hidden_user == row]})
    return histories, consumed


def test_the_model_reads_the_latest_events_and_every_event_counts_as_consumed(empty_shop: Shop) -> None:
    empty_shop.add_items("a", "b", "c", "d", "e")
    empty_shop.add_users("u")
    empty_shop.react("u", "e", "d", "c", "b", "a")
    assert read_items(empty_shop) == ([["c", "b", "a"]], [{"a", "b", "c", "d", "e"}])


def test_events_of_the_same_moment_keep_log_order(empty_shop: Shop) -> None:
    empty_shop.add_items("a", "b", "c")
    empty_shop.add_users("u")
    for item in "bca":
        empty_shop.react("u", item)
    assert read_items(empty_shop)[0] == [["b", "c", "a"]]


@pytest.mark.parametrize("batch_users", [1, 2, 100])
def test_users_without_feedback_are_included_in_batches_of_any_size(
    empty_shop: Shop, batch_users: int
) -> None:
    empty_shop.add_items("a", "b")
    empty_shop.add_users("u1", "u2", "u3", "u4", "u5")
    empty_shop.react("u2", "a")
    empty_shop.react("u5", "b", "a")
    assert read_items(empty_shop, batch_users=batch_users)[0] == [[], ["a"], [], [], ["b", "a"]]


def test_feedback_that_no_window_has_validated_is_consumed_but_not_read(empty_shop: Shop) -> None:
    empty_shop.add_items("a", "b")
    empty_shop.add_users("u")
    empty_shop.react("u", "a")
    empty_shop.close_window()
    empty_shop.react("u", "b", hours=1)
    assert read_items(empty_shop) == ([["a"]], [{"a", "b"}])


def test_without_consent_nothing_is_read_but_consumed_items_are_known(empty_shop: Shop) -> None:
    empty_shop.add_items("a", "b")
    empty_shop.add_users("u", consent=False)
    empty_shop.react("u", "a")
    assert read_items(empty_shop) == ([[]], [{"a"}])


def test_rows_that_are_not_validated_yet_may_be_malformed(empty_shop: Shop) -> None:
    empty_shop.add_items("a", "b", "c", "d")
    empty_shop.add_users("u")
    empty_shop.react("u", "a", occurred_at=None)
    empty_shop.react("u", "b", occurred_at="infinity")
    empty_shop.react("u", "c", value=float("inf"), event_type="rating")
    empty_shop.react("u", "c", value=float("nan"), event_type="no such type")
    empty_shop.react("u", "no such item")
    empty_shop.react("u", "d", occurred_at=START + timedelta(days=1))
    assert read_items(empty_shop) == ([["c", "d"]], [{"a", "b", "c", "d"}])


def test_values_and_times_arrive_exactly(empty_shop: Shop) -> None:
    empty_shop.add_items("a")
    empty_shop.add_users("u")
    moment = START + timedelta(microseconds=123457)
    empty_shop.react("u", "a", event_type="rating", value=2.75, occurred_at=moment)
    [batch] = read(empty_shop)[1]
    assert batch.histories.value.tolist() == [0.5]
    assert batch.histories.occurred_at.tolist() == [int(moment.timestamp()) * 1_000_000 + 123457]


def test_only_comments_without_another_opinion_are_read_and_they_are_scrubbed(empty_shop: Shop) -> None:
    empty_shop.add_items("a", "b", "c", "d", "e")
    empty_shop.add_users("u")
    empty_shop.add_users("without consent", consent=False)
    statement = (
        "insert into feedback (user_id, item_id, event_type, value, comment, occurred_at)"
        " values (:user, :item, :type, :value, :comment, :at)"
    )
    for hour, (user, item, event_type, value, comment) in enumerate(
        [
            ("u", "a", "comment", None, 'Write to me@example.org,\n"please"'),
            ("u", "b", "rating", 5, "as rated"),
            ("u", "c", "dislike", None, "as disliked"),
            ("u", "d", "comment", None, " "),
            ("u", "e", "view", None, None),
            ("without consent", "a", "comment", None, "not to be read"),
        ]
    ):
        values = {"user": user, "item": item, "type": event_type, "value": value, "comment": comment}
        empty_shop.execute(statement, values | {"at": START + timedelta(hours=hour)})
    empty_shop.close_window()
    empty_shop.execute(statement, values | {"user": "u", "at": START + timedelta(hours=9)})
    [batch] = read(empty_shop, max_events=10)[1]
    histories = batch.histories
    assert histories.comment.tolist() == [0, -1, -1, -1, -1]
    assert histories.comments.to_pylist() == ['Write to [e-mail],\n"please"']


def test_any_text_can_be_an_id(empty_shop: Shop) -> None:
    empty_shop.add_items(*ODD)
    empty_shop.add_users(*ODD)
    for name in ODD:
        empty_shop.react(name, name)
    histories, _ = read_items(empty_shop)
    assert sorted(histories) == sorted([name] for name in ODD)


def test_users_are_identified_by_their_keyed_hash(shop: Shop) -> None:
    _, batches = read(shop)
    keys = np.concatenate([batch.histories.user_keys for batch in batches]).tolist()
    assert sorted(keys) == sorted(row["user_key"] for row in shop.rows("select user_key from users"))
