"""What the weights of live interest are fitted on is what `serving.live_ranking` serves."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys.model.live_interest import LiveInterest
from recsys.serving.shared_lists import compute_item_lists
from recsys.snapshot.sequences import Sequences, microseconds
from recsys.training.live_interest import make_case
from recsys.training.together import Together
from tests.serving.conftest import Shop
from tests.small_models import EVENT_TYPES

ITEMS = 140
MORNING = datetime(2024, 5, 1, 8, tzinfo=UTC)
EVERYTHING = 2**62


def name(item: int) -> str:
    return f"item-{item:03}"


@pytest.mark.parametrize("reactions", [0, 8])
@pytest.mark.parametrize("seed", range(4))
def test_the_order_is_that_of_the_function_that_serves_lists(shop: Shop, seed: int, reactions: int) -> None:
    rng = np.random.default_rng(seed)
    shop.add_items(*map(name, range(ITEMS)))
    vectors = rng.normal(size=(ITEMS, 4))
    shop.vectors(**{name(item).replace("-", "_"): vectors[item].tolist() for item in range(ITEMS)})
    pool = rng.permutation(ITEMS)[: 110 if seed else 20]
    trending, reacted = rng.permutation(ITEMS)[:30], rng.permutation(ITEMS)[:reactions]
    had = np.concatenate([reacted, rng.permutation(ITEMS)[:5]])
    lists = [
        (np.setdiff1d(rng.permutation(ITEMS)[:12], [item]), np.sort(rng.random(12))[::-1])
        if number % 3
        else (np.zeros(0, dtype=np.int64), np.zeros(0))
        for number, item in enumerate(reacted.tolist())
    ]
    lists = [(others, scores[: len(others)]) for others, scores in lists]
    for item, (others, scores) in zip(reacted.tolist(), lists, strict=True):
        if len(others):
            shop.execute(
                "insert into item_lists values ('together', :item, :others, :scores)",
                {"item": name(item), "others": list(map(name, others)), "scores": scores.tolist()},
            )
    shop.share("trending", *map(name, trending))
    live = LiveInterest(strength=1.7, trending=1.5)
    shop.add_user("ada")
    shop.publish("ada", *map(name, pool))
    shop.execute(
        "insert into model_versions (model_version, kind, base_transaction_id, trained_transaction_id,"
        " live_strength, live_decay, live_trending, live_trending_before_reaction)"
        " values ('7', 'full', 0, 0, :s, :d, :with, :without)",
        {"s": live.strength, "d": live.decay}
        | ({"with": live.trending, "without": 0.2} if reactions else {"with": 0.2, "without": live.trending}),
    )
    # The last two weigh less than a hundredth of the strongest: they say nothing.
    weight = np.array([1.0, 1.1, 1.2, 1.3, -1.0, 1.5, 0.05, 0.06])[:reactions]
    case = make_case(
        user="ada", target=int(pool[7]), pool=pool, trending=trending, reacted=reacted, weight=weight,
        age=np.arange(reactions), lists=lists, had=had, hidden=np.zeros(0, dtype=np.int32),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )  # fmt: skip
    [row] = shop.rows(
        "select array_agg(item_id) as ids"
        " from serving.live_ranking(:pool, :scores, :reacted, cast(:weights as real[]), :had)",
        pool=list(map(name, pool)), scores=[0.0] * len(pool), reacted=list(map(name, reacted)),
        weights=(weight * live.decay ** np.arange(reactions)).tolist(), had=list(map(name, had)),
    )  # fmt: skip
    expected = case.items[np.argsort(-case.scores(live), kind="stable")]
    assert case.items[case.target] == pool[7]
    assert row["ids"] == list(map(name, expected))


def test_what_goes_together_is_that_of_the_lists_that_are_published(shop: Shop) -> None:
    rng = np.random.default_rng(3)
    shop.add_items(*map(name, range(12)))
    events = [
        (user, int(item), MORNING + timedelta(hours=10 * hour))
        for user in range(40)
        for hour, item in enumerate(rng.permutation(12)[:7])
    ]
    for user in range(40):
        shop.add_user(f"u-{user:02}")
    for user, item, time in events:
        shop.react(f"u-{user:02}", "like", name(item), occurred_at=time)
    until = MORNING + timedelta(hours=45)
    with shop.engine.begin() as connection:
        compute_item_lists(connection, until, EVERYTHING)
    users, items, times = zip(*events, strict=True)
    sequences = Sequences.build(
        user_keys=[f"u-{user:02}" for user in range(40)], user_index=users, item_index=items,
        event_type=np.full(len(events), EVENT_TYPES.names.index("like")), value=np.full(len(events), np.nan),
        occurred_at=[microseconds(time) for time in times], feedback_id=np.arange(len(events)),
        event_types=EVENT_TYPES,
    )  # fmt: skip
    together = Together(sequences, np.arange(12), 12)
    rows = shop.rows("select * from item_lists where kind = 'together'")
    assert len(rows) == 12
    for row in rows:
        others, scores = together.of(int(row["item_id"][-3:]), microseconds(until))
        assert list(map(name, others)) == row["item_ids"]
        np.testing.assert_allclose(scores, row["scores"], rtol=1e-6)
