"""What the benchmark of phrases counts as agreement."""

import numpy as np
import pytest

from benchmarks.comment_phrases import Judged, figures
from recsys.publishing.phrase_opinions import Phrase


def judged(praised: bool, held_out: float, people: int = 3) -> Judged:
    phrase = Phrase(praised, "a word", 5, None)
    return Judged("item", phrase, people, held_out, item=4.0, catalogue=4.5, used=5.0)


def test_people_of_the_other_half_agree_on_the_same_side_of_the_mean() -> None:
    found = figures([judged(True, 4.8), judged(False, 4.8), judged(True, 4.5), judged(False, 4.2)], 3)
    assert found["all"] == {"judged": 4, "agreement": 0.5, "agreement_within_item": 0.5}
    assert found["praised"]["agreement"] == 0.5
    assert found["criticised"] == {"judged": 2, "agreement": 0.5, "agreement_within_item": 0.0}
    assert found["agreement_of_mean_rating"] == 0.5


def test_phrases_that_too_few_people_use_are_counted_but_not_judged() -> None:
    found = figures([judged(True, np.nan, 0), judged(True, 1.0, 2), judged(True, 5.0)], 3)
    assert (found["phrases"], found["judged"]) == (3, 1)
    assert found["all"]["agreement"] == pytest.approx(1.0)
