import numpy as np
import pytest

from recsys.errors import ConfigurationError
from recsys.model import collaborative
from recsys.model.co_occurrences import CoOccurrences, interaction_matrix
from recsys.model.collaborative import EASE, Popularity, _Neighbourhoods
from recsys.snapshot.sequences import Sequences
from tests.small_models import disliked, histories, liked, theme_catalogue

CATALOGUE = theme_catalogue(4)
LARGER = theme_catalogue(16)
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


def test_an_item_is_solved_on_its_nearest_items() -> None:
    events, neighbours = some_taste(np.random.default_rng(0), 30), 6
    gram = interaction_matrix(events, len(LARGER)).T @ interaction_matrix(events, len(LARGER))
    gram = gram.toarray().astype(float)
    cosine = gram / np.sqrt(np.outer(gram.diagonal(), gram.diagonal()))
    np.fill_diagonal(cosine, 0)
    expected = np.zeros_like(gram)
    for item in range(len(LARGER)):
        near = np.argsort(-cosine[:, item].round(6), kind="stable")[:neighbours]
        own = gram[np.ix_(near, near)] + 2.0 * np.eye(neighbours)
        expected[near, item] = np.linalg.solve(own, gram[near, item])
    weights = EASE.fit(events, len(LARGER), 2.0, neighbours=neighbours).weights
    assert (np.diff(weights.tocsc().indptr) == neighbours).all()
    np.testing.assert_allclose(weights.toarray(), expected, atol=1e-4)


def test_a_million_items_of_which_few_are_consumed_are_solved() -> None:
    weights = EASE.fit(PAST, 1_000_000, 2.0).weights
    small = EASE.fit(PAST, len(CATALOGUE), 2.0).weights
    assert weights.nnz == small.nnz > 0


def test_what_does_not_fit_in_memory_is_refused_before_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.memory.available_memory", lambda: 1 << 20)
    with pytest.raises(ConfigurationError, match="COLLABORATIVE_PAIRS lower"):
        EASE.fit(PAST, len(CATALOGUE))


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must be above 0, not 0"):
        EASE.fit(PAST, len(CATALOGUE), 0.0)


def test_no_events_give_no_weights() -> None:
    assert EASE.fit(histories(CATALOGUE, []), len(CATALOGUE)).weights.nnz == 0


def test_weights_and_counts_move_with_their_items_to_another_catalogue() -> None:
    positions = np.arange(len(CATALOGUE))[::-1].astype(np.int64).copy()
    positions[SPACE[3]] = -1
    ease, popularity = EASE.fit(PAST, len(CATALOGUE), 1.0), Popularity.fit(PAST, len(CATALOGUE))
    moved, counted = ease.aligned(positions, 20), popularity.aligned(positions, 20)
    kept = np.flatnonzero(positions >= 0)
    expected = np.zeros((20, 20), dtype=np.float32)
    expected[np.ix_(positions[kept], positions[kept])] = ease.weights.toarray()[np.ix_(kept, kept)]
    np.testing.assert_array_equal(moved.weights.toarray(), expected)
    assert counted.counts[positions[CRIME[0]]] == 3
    assert counted.counts.sum() == popularity.counts.sum()


def some_taste(rng: np.random.Generator, users: int) -> Sequences:
    """Return users who consume items of one of six groups, and popular ones."""
    chosen = []
    for _ in range(users):
        group = rng.integers(6)
        near = group * 8 + rng.choice(8, 4, replace=False)
        popular = np.flatnonzero(rng.random(len(LARGER)) < 0.1)
        chosen.append(liked(*LARGER.item_ids[np.unique(np.concatenate([near, popular]))].tolist()))
    return histories(LARGER, *chosen)


@pytest.mark.parametrize("seed", range(5))
def test_an_update_of_many_users_gives_the_weights_of_fitting_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, after = some_taste(rng, 60), some_taste(rng, 3)
    before = after.where(np.arange(after.events) % 3 > 0)
    old = EASE.fit([known, before], len(LARGER), 2.0, neighbours=6, keep_counts=True)
    updated = old.updated(before, after, 2.0, neighbours=6)
    refitted = EASE.fit([known, after], len(LARGER), 2.0, neighbours=6)
    np.testing.assert_allclose(updated.weights.toarray(), refitted.weights.toarray(), atol=1e-5)


def test_counts_of_large_catalogues_are_read_without_a_dense_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    events = some_taste(np.random.default_rng(0), 60)
    small = EASE.fit(events, len(LARGER), 2.0, neighbours=6).weights
    monkeypatch.setattr(collaborative, "_DENSE_COUNTS", len(LARGER) ** 2 - 1)
    assert (EASE.fit(events, len(LARGER), 2.0, neighbours=6).weights != small).nnz == 0


def test_an_update_solves_no_item_without_a_changed_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = histories(CATALOGUE, liked("crime-0")), histories(CATALOGUE, liked("crime-0", "crime-1"))
    old = EASE.fit([PAST, before], len(CATALOGUE), 2.0, keep_counts=True)
    solved: list[int] = []
    solve = _Neighbourhoods.solve
    monkeypatch.setattr(
        _Neighbourhoods,
        "solve",
        lambda own, items, penalty: solved.extend(items) or solve(own, items, penalty),
    )
    old.updated(before, after, 2.0)
    assert set(CATALOGUE.item_ids[solved]) == {"crime-0", "crime-1", "crime-2"}


def test_only_the_nearest_pairs_are_counted_when_there_are_too_many() -> None:
    events = some_taste(np.random.default_rng(0), 200)
    whole = CoOccurrences.fit([events], len(LARGER)).counts
    counts = CoOccurrences.fit([events], len(LARGER), max_pairs=5 * len(LARGER)).counts
    assert len(LARGER) < counts.nnz <= 6 * len(LARGER) < whole.nnz
    np.testing.assert_array_equal(counts.diagonal(), whole.diagonal())
    kept = counts.tocoo()
    np.testing.assert_array_equal(kept.data, np.asarray(whole[kept.row, kept.col]).ravel())
    weights = EASE.fit(events, len(LARGER), 2.0, max_pairs=5 * len(LARGER)).weights
    assert np.isfinite(weights.data).all()


@pytest.mark.parametrize("seed", range(3))
def test_weights_stay_small_where_items_have_many_more_neighbours_than_counts(seed: int) -> None:
    chosen = np.random.default_rng(seed).random((150, len(LARGER))) < 0.6
    events = histories(LARGER, *[liked(*LARGER.item_ids[items].tolist()) for items in chosen])
    weights = EASE.fit(events, len(LARGER), 2.0, max_pairs=12 * len(LARGER)).weights
    assert weights.nnz
    assert abs(weights).max() < 1


def test_counts_are_the_same_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    events = some_taste(np.random.default_rng(0), 50)
    whole = CoOccurrences.fit([events], len(LARGER)).counts
    monkeypatch.setattr("recsys.model.co_occurrences._BLOCK_PAIRS", 100)
    assert (CoOccurrences.fit([events], len(LARGER)).counts != whole).nnz == 0


def test_of_a_user_with_very_many_events_the_latest_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.model.co_occurrences.MAX_EVENTS", 2)
    counts = CoOccurrences.fit([PAST], len(CATALOGUE)).counts
    assert counts.diagonal()[SPACE[0]] == 0
    assert counts.diagonal()[SPACE[1]] == 5


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
    np.testing.assert_array_equal(again.counts.toarray(), kept.counts.toarray())


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
    gram = counts.symmetric().toarray()
    np.testing.assert_array_equal(gram, gram.T)
    assert gram[positions[SPACE[0]], positions[SPACE[1]]] == 5
    none = histories(CATALOGUE, [])
    np.testing.assert_allclose(
        moved.updated(none, none, 2.0).weights.toarray(), moved.weights.toarray(), atol=1e-6
    )


def test_users_who_were_never_counted_do_not_make_counts_inconsistent() -> None:
    ease = EASE.fit(PAST, len(CATALOGUE), 2.0, keep_counts=True)
    never_counted = histories(CATALOGUE, *[liked("space-0")] * 50)
    after = histories(CATALOGUE, *[liked("space-0", "cooking-1")] * 50)
    updated = ease.updated(never_counted, after, 2.0)
    assert updated.co_occurrences is not None
    counts = updated.co_occurrences.symmetric().toarray()
    assert (counts <= np.minimum.outer(counts.diagonal(), counts.diagonal())).all()
    assert (np.abs(updated.weights.data) <= 1).all()
