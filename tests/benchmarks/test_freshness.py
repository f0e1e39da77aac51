"""What `benchmarks.freshness` compares and how it sums it up."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from benchmarks.datasets import PRODUCT_EVENT_TYPES, Dataset
from benchmarks.freshness import Window, _without_half
from benchmarks.freshness_figures import ALL, SLICES, Replay, summarise
from recsys.snapshot.sequences import Sequences

NAMED = cast(Dataset, SimpleNamespace(name="some"))


def replayed(**changed: list[float | None]) -> Replay:
    """Three windows; (d) is fitted after the first one only."""
    curves = {"none": [0.1, 0.1, 0.1], "vectors": [0.1, 0.15, 0.15], "micro": [0.1, 0.2, 0.9]}
    curves["full"] = [0.1, 0.3, None]
    alike = {"micro": [None, 0.2, 0.4], "full": [None, 0.3, 0.5]} | changed
    return Replay(
        curves=dict.fromkeys(SLICES, curves),
        alike=dict.fromkeys(SLICES, alike),
        forgotten={"micro": [0.1, 0.0, 0.05]},
        seconds={"micro": [1.0, 1.0], "full": [10.0]},
        base_seconds=5.0,
        events_predicted=3,
    )


def test_an_update_is_compared_with_a_fine_tune_that_knows_the_same_events() -> None:
    figures = summarise(NAMED, [replayed()])
    assert figures["windows_compared"] == 2
    assert figures["ndcg_at_10_compared"]["micro"] == pytest.approx(0.3)
    assert figures["gain_recovered"] == pytest.approx((0.1 + 0.3) / (0.2 + 0.4))
    assert figures["cost_ratio"] == pytest.approx(0.1)


def test_a_slice_without_events_has_no_figures() -> None:
    nothing = replayed()
    for curves in (nothing.curves, nothing.alike):
        curves["new_items"] = {way: [None] * 3 for way in curves[ALL]}
    figures = summarise(NAMED, [nothing])
    assert "gain_recovered_new_items" not in figures
    assert figures["gain_recovered_old_items"] == figures["gain_recovered"]


def test_the_earlier_half_of_each_window_is_lost() -> None:
    sequences = Sequences.build(
        user_keys=["ada", "bob"],
        user_index=np.array([0, 1, 0, 1, 0, 1, 0]),
        item_index=np.arange(7),
        event_type=PRODUCT_EVENT_TYPES.lookup(["view"] * 7),
        value=np.full(7, np.nan),
        occurred_at=np.arange(7),
        feedback_id=np.arange(7),
        event_types=PRODUCT_EVENT_TYPES,
    )
    cut = [Window(np.arange(0), start, end) for start, end in ((2, 4), (4, 7))]
    left = _without_half(sequences, cut)
    assert sorted(left.occurred_at.tolist()) == [0, 1, 3, 5, 6]
