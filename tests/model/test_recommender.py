from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.errors import CheckpointError, ConfigurationError
from recsys.model import item_encoder
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.collaborative import EASE, Popularity
from recsys.model.events import batches_of_events, collate, time_gaps
from recsys.model.fusion import SUCCESSION, Fusion
from recsys.model.recommender import EVENTS_PER_BATCH, Recommender
from recsys.model.succession import Succession
from recsys.model.user_encoder import Block
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences
from tests.small_models import (
    EVENT_TYPES,
    LIKE,
    RATING,
    VIEW,
    disliked,
    histories,
    liked,
    small_settings,
    theme_catalogue,
)


def test_scores_and_vectors_have_the_documented_shapes(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, liked("space-0"), [], liked("crime-1", "crime-2"))
    assert recommender.item_vectors().shape == (36, 16)
    assert recommender.user_vectors(past).shape == (3, 16)
    scores = recommender.score(past)
    assert scores.shape == (3, 36)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_item_vectors_are_the_same_in_blocks(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = recommender.item_vectors()
    monkeypatch.setattr(item_encoder, "_BLOCK_ITEMS", 7)
    np.testing.assert_allclose(recommender.item_vectors(), whole, rtol=1e-5, atol=1e-6)


def test_a_user_gets_the_same_scores_alone_and_in_a_batch(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    users = [liked("space-0", "space-1"), liked("crime-1"), [], liked(*[f"cooking-{n}" for n in range(12)])]
    together = recommender.score(histories(catalogue, *users))
    # The times differ between the two, but the gaps do not.
    alone = np.concatenate([recommender.score(histories(catalogue, user)) for user in users])
    assert np.allclose(together, alone, atol=1e-4)


def test_order_type_and_value_of_events_change_the_user_vector(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    torch.nn.init.normal_(recommender.users.sentiment.weight)
    torch.nn.init.normal_(recommender.users.position.weight)
    nan = float("nan")
    variants = [
        [("space-0", LIKE, nan), ("crime-0", LIKE, nan)],
        [("crime-0", LIKE, nan), ("space-0", LIKE, nan)],
        [("space-0", VIEW, nan), ("crime-0", LIKE, nan)],
        [("space-0", RATING, 5.0), ("crime-0", LIKE, nan)],
        [("space-0", RATING, 4.0), ("crime-0", LIKE, nan)],
        [*disliked("space-0"), ("crime-0", LIKE, nan)],
    ]
    vectors = recommender.user_vectors(histories(catalogue, *variants))
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    assert (distances[~np.eye(len(variants), dtype=bool)] > 1e-5).all()


def test_user_vectors_are_those_after_the_last_event_whatever_the_batches(
    recommender: Recommender, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [0, 7, 1, 19, 20, 3, 7, 0, 12, 45]
    past = histories(catalogue, *[liked(*[f"space-{n % 12}" for n in range(count)]) for count in lengths])
    recent = past.last(recommender.settings.max_events)
    events = collate(recent, time_gaps(recent), recent.offsets[:-1], recent.offsets[1:])
    with torch.no_grad():
        every = recommender.encode_events(events, recommender.item_table())
    after_last = every[torch.arange(len(lengths)), events.lengths].numpy()
    for places in (1, 50, 10_000):
        monkeypatch.setitem(EVENTS_PER_BATCH, "cpu", places)
        np.testing.assert_allclose(recommender.user_vectors(recent), after_last, atol=1e-5)


@pytest.mark.parametrize("users", [1, 7, 300])
def test_user_vectors_have_the_same_digits_with_any_number_of_threads(
    recommender: Recommender, catalogue: Catalogue, users: int
) -> None:
    rng = np.random.default_rng(users)
    names = [[catalogue.item_ids[n] for n in rng.integers(36, size=rng.integers(20))] for _ in range(users)]
    past = histories(catalogue, *[liked(*items) for items in names])
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            found.append(recommender.user_vectors(past))
    finally:
        torch.set_num_threads(threads)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_batches_hold_each_user_once_and_no_more_places_than_allowed() -> None:
    lengths = np.random.default_rng(0).integers(0, 101, 500)
    batches = list(batches_of_events(lengths, 1_000))
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert max(len(rows) * (lengths[rows].max() + 1) for rows in batches) <= 1_000
    assert sum(len(rows) * (lengths[rows].max() + 1) for rows in batches) < 1.1 * (lengths.sum() + 500)
    assert [rows.tolist() for rows in batches_of_events(np.array([3, 9]), 2)] == [[1], [0]]


def test_the_latest_events_of_a_long_history_are_read(recommender: Recommender, catalogue: Catalogue) -> None:
    items = [catalogue.item_ids[n % 36] for n in range(10_000)]
    long = histories(catalogue, liked(*items))
    newest = histories(catalogue, liked(*items[-21:])).last(20)
    # Only the long history knows the gap before the first event that is read.
    vectors = recommender.user_vectors(long), recommender.user_vectors(newest)
    changed = recommender.user_vectors(histories(catalogue, liked(*items[:-1], "space-3")))
    assert np.linalg.norm(vectors[0] - vectors[1]) < 0.2 * np.linalg.norm(vectors[0])
    assert not np.allclose(vectors[0], changed)


def test_a_new_item_gets_a_vector_from_its_text_and_changes_no_other_item(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    larger = theme_catalogue(extra=(("new", "rocket planet"), ("blank", "")))
    order = np.random.default_rng(0).permutation(len(larger))
    shuffled = larger.take(order)
    moved = recommender.with_catalogue(shuffled)
    before, after = recommender.item_vectors(), moved.item_vectors()
    assert np.allclose(after[shuffled.lookup(catalogue.item_ids)], before, atol=1e-5)
    assert not moved.items.trained[shuffled.index["new"]]
    assert np.isfinite(after).all()
    past = [liked("space-0", "crime-3")]
    same = shuffled.lookup(catalogue.item_ids)
    neural = moved.parts(histories(shuffled, *past))["neural"][:, same]
    assert np.corrcoef(neural, recommender.parts(histories(catalogue, *past))["neural"])[0, 1] > 0.999


def test_an_item_whose_text_changed_is_encoded_again(recommender: Recommender, catalogue: Catalogue) -> None:
    texts = list(catalogue.texts)
    texts[0] = "soup and oven"
    changed = replace(catalogue, texts=texts)
    difference = np.abs(recommender.with_catalogue(changed).item_vectors() - recommender.item_vectors()).sum(
        1
    )
    assert difference[0] > 1e-3
    assert not difference[1:].any()


def test_a_checkpoint_gives_the_same_scores(
    recommender: Recommender, catalogue: Catalogue, tmp_path: Path
) -> None:
    past = histories(catalogue, liked("space-0", "space-1"), [])
    recommender.collaborative = EASE.fit(past, 36, 1.0)
    recommender.succession = Succession.fit([past], 36)
    recommender.fusion = Fusion({**recommender.fusion.weights, SUCCESSION: 0.5})
    recommender.popularity = Popularity.fit(past, 36)
    save_recommender(recommender, tmp_path / "checkpoint", parent="7")
    loaded = load_recommender(tmp_path / "checkpoint")
    assert np.allclose(loaded.score(past), recommender.score(past), atol=1e-6)
    assert loaded.text is None  # scoring needs no text encoder
    assert loaded.catalogue.titles == catalogue.titles
    again = loaded.with_catalogue(catalogue)
    assert again.text is None  # nothing new to encode
    assert np.allclose(again.score(past), recommender.score(past), atol=1e-6)
    assert not list(tmp_path.rglob("*.p*kl")) + list(tmp_path.rglob("*.bin"))


def test_a_request_affects_only_its_user(recommender: Recommender, catalogue: Catalogue) -> None:
    past = histories(catalogue, liked("space-0"), liked("space-0"))
    plain, asked = recommender.score(past), recommender.score(past, ["", "bread and soup"])
    assert np.allclose(plain[0], asked[0])
    assert not np.allclose(plain[1], asked[1])


def test_scores_of_no_users_are_empty(recommender: Recommender) -> None:
    assert recommender.score(Sequences.empty()).shape == (0, 36)


def test_histories_of_another_catalogue_are_refused(recommender: Recommender) -> None:
    larger = theme_catalogue(20)
    with pytest.raises(CheckpointError, match="with_catalogue"):
        recommender.score(histories(larger, liked(str(larger.item_ids[-1]))))


def test_a_process_without_a_history_of_the_batch_encodes_none() -> None:
    """The last batch of an epoch may have fewer histories than there are processes."""
    assert Block(8, 2, 0.0, 1)(torch.zeros(0, 5, 8)).shape == (0, 5, 8)


def test_an_empty_catalogue_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least one item"):
        Recommender.build(
            small_settings(tmp_path, encoder_folder).model, Catalogue.build([], []), EVENT_TYPES
        )


@pytest.mark.parametrize(
    "titles", [[""], ["bread"] * 3, ["", "", "bread"]], ids=["one blank", "equal", "blanks"]
)
def test_catalogues_with_blank_or_equal_texts_work(
    encoder_folder: Path, tmp_path: Path, titles: list[str]
) -> None:
    small = Catalogue.build([str(n) for n in range(len(titles))], titles)
    model = Recommender.build(small_settings(tmp_path, encoder_folder).model, small, EVENT_TYPES).eval()
    assert np.isfinite(model.score(histories(small, liked("0"), []))).all()


def test_a_new_event_type_starts_as_the_known_types_of_its_role(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    torch.nn.init.normal_(recommender.users.event_type.weight)
    records = [row for row in EVENT_TYPES.to_records() if row["event_type"] != "view"]
    wanted = EventTypes.from_records(
        [*records, {"event_type": "bookmark", "explicit": True, "weight": 1, "polarity": 1}]
    )
    moved = recommender.with_event_types(wanted)
    new, old = moved.users.event_type.weight, recommender.users.event_type.weight
    assert torch.equal(new[wanted.index["like"]], old[LIKE])
    outcomes = [row for row, role in enumerate(EVENT_TYPES.role) if role == "outcome"]
    assert torch.allclose(new[wanted.index["bookmark"]], old[outcomes].mean(0))
    past = histories(catalogue, liked("space-0", "crime-1"))
    same = replace(past, event_type=wanted.lookup(["like", "like"]))
    assert np.allclose(moved.score(same), recommender.score(past), atol=1e-5)
    assert recommender.event_types is EVENT_TYPES
