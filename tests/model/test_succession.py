from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import ConfigurationError
from recsys.model import succession
from recsys.model.fusion import standardise
from recsys.model.succession import DECAY, PRIOR, SPAN, StandardisedSuccession, Succession
from recsys.snapshot.sequences import Sequences
from tests.small_models import VIEW, disliked, histories, liked, theme_catalogue

CATALOGUE = theme_catalogue(12)
N_ITEMS = len(CATALOGUE)
SPACE = CATALOGUE.lookup([f"space-{n}" for n in range(12)])
SERIES = [f"space-{n}" for n in range(12)]


def counts_of(*users: list[tuple[str, int, float]]) -> np.ndarray:
    return Succession.fit([histories(CATALOGUE, *users)], N_ITEMS).counts.toarray()


def test_an_item_is_followed_by_what_people_chose_within_the_span() -> None:
    counts = counts_of(liked(*SERIES), liked("space-1", "space-0"))
    assert counts[SPACE[0], SPACE[1]] == 1
    assert counts[SPACE[1], SPACE[0]] == 1
    assert counts[SPACE[0], SPACE[SPAN]] == 1
    assert counts[SPACE[0], SPACE[SPAN + 1]] == 0
    assert counts[SPACE[5], SPACE[4]] == 0


def test_one_person_counts_once_however_often_they_go_back_and_forth() -> None:
    often = histories(CATALOGUE, [(item, VIEW, np.nan) for item in ("space-0", "space-1") * 500])
    often = replace(often, hide_days=np.zeros(often.events, np.float32), outcome=np.ones(often.events, bool))
    counts = Succession.fit([often], N_ITEMS).counts.toarray()
    assert counts[SPACE[0], SPACE[1]] == 1
    assert counts.sum() == 2


def test_nothing_follows_a_dislike_and_a_dislike_follows_nothing() -> None:
    assert not counts_of(disliked("space-0") + liked("space-1")).any()
    assert not counts_of(liked("space-0") + disliked("space-1")).any()


def test_only_what_could_be_recommended_follows() -> None:
    """A second look at an item that is off the user's lists is no target."""
    counts = counts_of(liked("space-0", "space-1", "space-0"))
    assert counts[SPACE[0], SPACE[1]] == 1
    assert counts[SPACE[1], SPACE[0]] == 0


def random_world(users: int = 60, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    items = [str(item) for item in CATALOGUE.item_ids]
    return histories(
        CATALOGUE, *[liked(*rng.permutation(items)[: rng.integers(0, 30)]) for _ in range(users)]
    )


def test_parts_and_blocks_of_the_users_give_the_same_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = random_world()
    whole = Succession.fit([world], N_ITEMS).counts
    parts = [world.take_users(range(20)), world.take_users([]), world.take_users(range(20, 60))]
    assert (Succession.fit(parts, N_ITEMS).counts != whole).nnz == 0
    monkeypatch.setattr(succession, "_BLOCK_PAIRS", 300)
    assert (Succession.fit([world], N_ITEMS).counts != whole).nnz == 0
    # With so many items, only a few users have keys of 64 bits at a time.
    monkeypatch.setattr(succession, "_LARGEST_KEY", 4 * N_ITEMS**2)
    assert (Succession.fit([world], N_ITEMS).counts != whole).nnz == 0


def test_counts_after_a_change_are_those_of_counting_again() -> None:
    world, changed = random_world(), random_world(seed=1)
    before, after, others = (
        world.take_users(range(30)), changed.take_users(range(30)), world.take_users(range(30, 60)),
    )  # fmt: skip
    updated = Succession.fit([before, others], N_ITEMS).changed(before, after)
    assert (updated.counts != Succession.fit([after, others], N_ITEMS).counts).nnz == 0


def test_a_large_catalogue_keeps_what_follows_an_item_most() -> None:
    users = (
        [liked("space-0", "space-1")] * 3 + [liked("space-0", "space-2")] * 2 + [liked("space-0", "space-3")]
    )
    cut = Succession.fit([histories(CATALOGUE, *users)], N_ITEMS, max_pairs=2 * N_ITEMS).counts.toarray()
    assert cut[SPACE[0], SPACE[1:4]].tolist() == [3, 2, 1]  # there are fewer than may be kept in all
    many = [liked(*np.random.default_rng(n).permutation(CATALOGUE.item_ids)) for n in range(5)]
    events = histories(CATALOGUE, *users, *many)
    whole = Succession.fit([events], N_ITEMS).counts.toarray()
    kept = Succession.fit([events], N_ITEMS, max_pairs=2 * N_ITEMS).counts.toarray()
    assert ((kept > 0).sum(axis=1) <= 2).all()
    assert (kept.max(axis=1) == whole.max(axis=1)).all()


def test_a_million_items_of_which_few_are_chosen_are_counted() -> None:
    few = histories(CATALOGUE, liked("space-0", "space-1"))
    assert Succession.fit([few], 1_000_000).counts.nnz == 1


def test_counting_that_does_not_fit_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.memory.available_memory", lambda: 1 << 20)
    with pytest.raises(ConfigurationError, match=r"successions of items .*COLLABORATIVE_PAIRS lower"):
        Succession.fit([random_world()], N_ITEMS)


def test_the_score_is_the_formula() -> None:
    world = random_world()
    model = Succession.fit([world], N_ITEMS)
    counts = model.counts.toarray()
    divisor = np.sqrt(np.outer(counts.sum(1) + PRIOR, counts.sum(0) + PRIOR))
    past = histories(
        CATALOGUE,
        liked("space-0", "crime-1", "space-0"),
        [],
        disliked("space-1") + liked("space-2"),
        liked(*SERIES),
    )
    expected = np.zeros((past.users, N_ITEMS))
    for user in range(past.users):
        events = past.take_users([user])
        items = events.item_index[events.sentiment >= 0][::-1][:SPAN]
        for age, item in enumerate(items):
            expected[user] += DECAY**age * counts[item] / divisor[item]
    known = np.ones(N_ITEMS, dtype=bool)
    scores, shift = StandardisedSuccession(model, np.arange(N_ITEMS), known)(past)
    found = scores.toarray() - shift[:, None]
    np.testing.assert_allclose(found, standardise(np.sqrt(expected).astype(np.float32)), atol=2e-5)
    assert not found[1].any()


def test_a_cold_item_has_the_score_of_its_proxy() -> None:
    model = Succession.fit([histories(CATALOGUE, *[liked("space-0", "space-1")] * 5)], N_ITEMS)
    proxies, known = np.arange(N_ITEMS), np.ones(N_ITEMS, dtype=bool)
    proxies[SPACE[2]], known[SPACE[3]] = SPACE[1], False
    scores, _ = StandardisedSuccession(model, proxies, known)(histories(CATALOGUE, liked("space-0")))
    of_items = scores.toarray()[0]
    assert of_items[SPACE[2]] == of_items[SPACE[1]] > 0
    assert of_items[SPACE[3]] == 0


def test_counts_move_with_the_catalogue() -> None:
    model = Succession.fit([histories(CATALOGUE, liked("space-0", "space-1", "space-2"))], N_ITEMS)
    positions = np.full(N_ITEMS, -1)
    positions[SPACE[:3]] = [4, -1, 0]
    moved = model.aligned(positions, 5).counts.toarray()
    assert moved[4, 0] == 1
    assert moved.sum() == 1
