"""What benchmarks replay of the past is what serving would have answered then."""

import numpy as np
import sqlalchemy as sa

from benchmarks.datasets import PRODUCT_EVENT_TYPES
from benchmarks.live_lists import reactions
from recsys.serving.install import install_serving
from recsys.snapshot.sequences import Sequences

KINDS = ("view", "like", "dislike", "click", "dwell", "rating")
VALUES = {"dwell": 1.0, "rating": 2.0}


def test_reactions_of_the_past_are_those_that_serving_reads(warehouse: sa.Engine) -> None:
    install_serving(warehouse)
    events = [(f"item {n % 70}", KINDS[n * n % 11 % 6]) for n in range(90)]
    with warehouse.begin() as connection:
        connection.exec_driver_sql("insert into users (user_id) values ('ada')")
        for number, (item, kind) in enumerate(events):
            connection.execute(
                sa.text("insert into items (item_id) values (:i) on conflict do nothing"),
                {"i": item},
            )
            connection.execute(
                sa.text(
                    "insert into feedback (user_id, item_id, event_type, value, occurred_at)"
                    " values ('ada', :i, :k, :v, now() - make_interval(mins => :m))"
                ),
                {"i": item, "k": kind, "v": VALUES.get(kind), "m": 100 - number},
            )
        [served] = connection.exec_driver_sql(
            "select * from serving.reactions_since('ada', 0, '-infinity', 50)"
        ).all()
    sequences = Sequences.build(
        user_keys=["ada"],
        user_index=np.zeros(91),
        item_index=np.arange(91) % 70,
        event_type=PRODUCT_EVENT_TYPES.lookup([kind for _, kind in events] + ["view"]),
        value=[VALUES.get(kind, np.nan) for _, kind in events] + [np.nan],
        occurred_at=np.arange(91),
        feedback_id=np.arange(91),
        event_types=PRODUCT_EVENT_TYPES,
    )
    items, weights = reactions(sequences, 90, since=0, decay=0.7)
    assert [f"item {item}" for item in items] == served.items
    np.testing.assert_allclose(weights, served.weights, rtol=1e-5)
