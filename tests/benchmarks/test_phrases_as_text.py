"""Which comments the benchmark of phrases as item text reads."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.phrases_as_text import texts_of


def test_comments_of_the_predicted_time_are_in_no_text() -> None:
    said = ["loud speaker", "soft pillow", *(f"thing{n}" for n in range(20))]
    items = np.repeat(np.arange(len(said)), 8)
    reviews: Any = SimpleNamespace(
        item=items, user=np.arange(len(items)), catalogue=said,
        texts=[f"It has a {said[item]} today." for item in items],
    )  # fmt: skip
    everything = np.ones(len(items), dtype=bool)
    assert ["pillow" in text for text in texts_of(reviews, everything, 5)][:3] == [False, True, False]
    assert texts_of(reviews, items != 1, 5)[1] == ""
    assert texts_of(reviews, everything, 9) == [""] * len(said)
