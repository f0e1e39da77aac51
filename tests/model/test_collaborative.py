import numpy as np
import pytest

from recsys.errors import ConfigurationError
from recsys.model.collaborative import EASE, CoOccurrences, Popularity, interaction_matrix
from tests.small_models import disliked, histories, liked, theme_catalogue

CATALOGUE = theme_catalogue(4)
SPACE, CRIME = (CATALOGUE.lookup([f"{theme}-{n}" for n in range(4)]) for theme in ("space", "crime"))
PAST = histories(
    CATALOGUE,
    *[liked("space-0", "space-1", "space-2") for _ in range(5)],
    *[liked("crime-0", "crime-1", "crime-2") for _ in range(3)],
)


def test_ease_is_the_published_closed_form() -> None:
    x = interaction_matrix(PAST, len(CATALOGUE)).toarray().astype(float)
    seen = x.sum(0) > 0
    p = np.linalg.inv(x[:, seen].T @ x[:, seen] + 2.0 * np.eye(seen.sum()))
    expected = -p / np.diag(p)
    np.fill_diagonal(expected, 0)
    weights = EASE.fit(PAST, len(CATALOGUE), 2.0).weights.toarray()
    assert np.allclose(weights[np.ix_(seen, seen)], expected, atol=1e-4)
    assert not weights[~seen].any()


def test_fitting_on_parts_of_the_users_gives_the_same_result() -> None:
    parts = [PAST.take_users([0, 3, 5]), PAST.take_users([]), PAST.take_users([1, 2, 4, 6, 7])]
    whole, divided = (EASE.fit(events, len(CATALOGUE), 2.0).weights for events in (PAST, parts))
    assert (whole != divided).nnz == 0
    counts = [Popularity.fit(events, len(CATALOGUE)).counts for events in (PAST, parts)]
    np.testing.assert_array_equal(*counts)


def test_ease_recommends_items_consumed_together_with_the_history() -> None:
    scores = EASE.fit(PAST, len(CATALOGUE), 1.0).score(histories(CATALOGUE, liked("space-0", "space-1"), []))
    assert scores[0].argmax() == SPACE[2]
    assert not scores[1].any()


def test_a_dislike_lowers_its_neighbours_with_a_negative_weight() -> None:
    past = histories(CATALOGUE, disliked("space-0"))
    assert EASE.fit(PAST, len(CATALOGUE), 1.0, negative=-0.5).score(past)[0, SPACE[1]] < 0
    assert EASE.fit(PAST, len(CATALOGUE), 1.0).score(past)[0, SPACE[1]] > 0


def test_an_item_with_two_events_counts_once_with_its_latest_sentiment() -> None:
    past = histories(
        CATALOGUE, [*liked("space-0"), *disliked("space-0")], [*disliked("space-1"), *liked("space-1")]
    )
    matrix = interaction_matrix(past, len(CATALOGUE), negative=-0.5).toarray()
    assert matrix[0, SPACE[0]] == -0.5
    assert matrix[1, SPACE[1]] == 1


def test_only_the_largest_weights_of_an_item_are_kept() -> None:
    weights = EASE.fit(PAST, len(CATALOGUE), 1.0, neighbours=1).weights
    assert (np.diff(weights.tocsc().indptr) <= 2).all()


def test_a_too_large_catalogue_is_refused_before_memory_is_allocated() -> None:
    with pytest.raises(ConfigurationError, match=r"5000000 items.*COLLABORATIVE_MAX_ITEMS"):
        EASE.fit(PAST, 5_000_000)


def test_no_events_give_no_weights() -> None:
    assert EASE.fit(histories(CATALOGUE, []), len(CATALOGUE)).weights.nnz == 0


def test_weights_and_counts_move_with_their_items_to_another_catalogue() -> None:
    positions = np.arange(len(CATALOGUE))[::-1].astype(np.int64).copy()
    positions[SPACE[3]] = -1
    ease, popularity = EASE.fit(PAST, len(CATALOGUE), 1.0), Popularity.fit(PAST, len(CATALOGUE))
    moved, counted = ease.aligned(positions, 20), popularity.aligned(positions, 20)
    assert moved.weights[positions[SPACE[0]], positions[SPACE[1]]] == ease.weights[SPACE[0], SPACE[1]]
    assert counted.counts[positions[CRIME[0]]] == 3
    assert counted.counts.sum() == popularity.counts.sum()


def test_an_update_gives_the_same_weights_as_fitting_again() -> None:
    before = histories(CATALOGUE, liked("space-0", "crime-0"), liked("space-1"), [])
    after = histories(
        CATALOGUE, liked("space-0", "crime-0", "cooking-0"), liked("space-1", "crime-3"), liked("space-3")
    )
    old = EASE.fit([PAST, before], len(CATALOGUE), 2.0, neighbours=5, negative=-0.5, keep_counts=True)
    updated = old.updated(before, after, 2.0, neighbours=5)
    refitted = EASE.fit([PAST, after], len(CATALOGUE), 2.0, neighbours=5, negative=-0.5, keep_counts=True)
    np.testing.assert_allclose(updated.weights.toarray(), refitted.weights.toarray(), atol=1e-6)
    assert (updated.weights != old.weights).nnz
    assert updated.negative == -0.5
    again, kept = updated.co_occurrences, refitted.co_occurrences
    assert again is not None
    assert kept is not None
    np.testing.assert_array_equal(again.gram(), kept.gram())


def test_weights_without_co_occurrences_are_not_updated() -> None:
    ease = EASE.fit(PAST, len(CATALOGUE), 2.0)
    assert ease.updated(PAST, PAST, 2.0) is ease


def test_co_occurrences_move_with_their_items() -> None:
    positions = np.arange(len(CATALOGUE))[::-1].astype(np.int64).copy()
    positions[SPACE[3]] = -1
    ease = EASE.fit(PAST, len(CATALOGUE), 2.0, keep_counts=True)
    moved = ease.aligned(positions, 20)
    counts: CoOccurrences | None = moved.co_occurrences
    assert counts is not None
    gram = counts.gram()
    np.testing.assert_array_equal(gram, gram.T)
    assert gram[positions[SPACE[0]], positions[SPACE[1]]] == 5
    none = histories(CATALOGUE, [])
    np.testing.assert_allclose(
        moved.updated(none, none, 2.0).weights.toarray(), moved.weights.toarray(), atol=1e-6
    )


def test_weights_are_not_updated_from_inconsistent_counts(caplog: pytest.LogCaptureFixture) -> None:
    ease = EASE.fit(PAST, len(CATALOGUE), 2.0, keep_counts=True)
    never_counted = histories(CATALOGUE, *[liked("space-0")] * 50)
    after = histories(CATALOGUE, *[liked("space-0", "cooking-1")] * 50)
    assert ease.updated(never_counted, after, 2.0) is ease
    assert "is not updated" in caplog.text
