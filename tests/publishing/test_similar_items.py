"""Lists of what is similar to an item: exact, of the vectors that are published with them."""

import numpy as np
import pytest

from recsys.model.ranking import NO_ITEM
from recsys.publishing import similar_items
from recsys.publishing.publish import PublishSummary, publish
from recsys.publishing.similar_items import nearest_items
from tests.publishing.shop import ITEMS, UNAVAILABLE, Shop

_SCANNED = """
select own.item_id, array_agg(other.item_id order by own.vector <=> other.vector, other.item_id) as item_ids
from item_vectors as own
join item_vectors as other on other.item_id <> own.item_id
group by own.item_id
"""


def run(shop: Shop, key: str) -> PublishSummary:
    return publish(shop.engine, shop.settings, run_key=key, load=shop.load)


def listed(shop: Shop) -> dict[str, list[str]]:
    return {
        row["item_id"]: row["item_ids"]
        for row in shop.rows("select item_id, item_ids from item_lists where kind = 'similar'")
    }


def scanned(shop: Shop) -> dict[str, list[str]]:
    return {row["item_id"]: row["item_ids"] for row in shop.rows(_SCANNED)}


def test_nearest_items_are_those_of_the_whole_product_however_large_a_block_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(3)
    directions = random.integers(-2, 3, (500, 3)).astype(np.float32)  # many are equally near
    directions[(directions == 0).all(axis=1), 0] = 1
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for scores_in_memory in (1, 7 * 500, 1 << 24):
        monkeypatch.setattr(similar_items, "SCORES_IN_MEMORY", scores_in_memory)
        cosines = directions @ directions.T
        np.fill_diagonal(cosines, -np.inf)
        seen = 0
        for first, items, best in nearest_items(directions, 9):
            expected = cosines[first : first + len(items)]
            np.testing.assert_allclose(best, -np.sort(-expected, axis=1)[:, :9], atol=1e-6)
            np.testing.assert_allclose(best, np.take_along_axis(expected, items, axis=1), atol=1e-6)
            tied = best[:, 1:] == best[:, :-1]
            assert (items[:, 1:] > items[:, :-1])[tied].all()
            seen += len(items)
        assert seen == 500


def test_a_short_catalogue_has_short_lists_and_one_item_an_empty_one() -> None:
    [(_, items, _)] = nearest_items(np.eye(3, dtype=np.float32), 5)
    assert (items != NO_ITEM).sum(axis=1).tolist() == [2, 2, 2]
    [(_, items, _)] = nearest_items(np.eye(1, dtype=np.float32), 5)
    assert items.tolist() == [[NO_ITEM] * 5]


def test_lists_change_with_the_vectors_and_only_then(shop: Shop) -> None:
    run(shop, "first")
    first = listed(shop)
    assert first == scanned(shop)
    assert first.keys() == set(ITEMS) - UNAVAILABLE
    rows = shop.rows("select ctid::text, xmin::text from item_lists order by item_id")
    shop.react("user 01", ITEMS[2], hours=1)
    shop.close_window()
    run(shop, "hour")
    assert shop.rows("select ctid::text, xmin::text from item_lists order by item_id") == rows
    shop.execute("update items set available = false where item_id = 'item 04'")
    shop.add_items("tea")
    run(shop, "with a new item")
    assert listed(shop) == scanned(shop)
    assert "tea" in listed(shop)
    assert "item 04" not in {*listed(shop), *listed(shop)["tea"]}
    shop.promote("2")
    run(shop, "with a new model")
    assert listed(shop) == scanned(shop) != first


def test_a_catalogue_that_has_become_too_large_has_none(shop: Shop) -> None:
    run(shop, "first")
    assert listed(shop)
    small = shop.settings.publishing.model_copy(update={"similar_items": 28})
    shop.settings = shop.settings.model_copy(update={"publishing": small})
    shop.add_items("tea")
    run(shop, "larger")
    assert listed(shop) == {}


def test_a_vector_without_a_direction_is_in_no_list(shop: Shop) -> None:
    vectors = np.array([[1, 0], [0, 0], [1, 1], [np.inf, 0]], dtype=np.float32)
    with shop.engine.connect() as connection:
        connection.exec_driver_sql(
            "create temporary table staged_similar_items (item_id text, item_ids text[], scores real[])"
        )
        connection.commit()
        similar_items.stage_similar_items(connection, ["a", "b", "c", "d"], vectors, device="cpu")
        rows = connection.exec_driver_sql("select item_id, item_ids, scores from staged_similar_items").all()
    assert [(row.item_id, row.item_ids) for row in rows] == [("a", ["c"]), ("c", ["a"])]
    assert rows[0].scores == pytest.approx([0.5**0.5])
