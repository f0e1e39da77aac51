"""Numbers among the attributes of items."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.model.checkpoint import MANIFEST, load_recommender, save_recommender
from recsys.model.item_numbers import BINS, MAX_ATTRIBUTES, ItemNumbers
from recsys.model.recommender import Recommender
from recsys.snapshot.catalogue import Catalogue
from tests.model.conftest import EVENT_TYPES
from tests.small_models import histories, liked, small_settings


def shop(count: int = 40, *more: dict[str, object]) -> Catalogue:
    """Return items with one title and prices 1, 2, 3, ..., and some with other attributes."""
    attributes = [{"price": n + 1.0} for n in range(count)] + list(more)
    ids = [f"item-{n}" for n in range(len(attributes))]
    # The same text for all: the description stands where attributes would be read.
    return Catalogue.build(ids, ["thing"] * len(ids), None, attributes)


@pytest.fixture
def priced(encoder_folder: Path, tmp_path: Path) -> Recommender:
    """A recommender of a shop whose vectors depend on prices; the last item has none."""
    torch.manual_seed(0)
    model = Recommender.build(
        small_settings(tmp_path, encoder_folder).model, shop(40, {"colour": "red"}), EVENT_TYPES
    )
    assert model.items.number_weight is not None
    torch.nn.init.normal_(model.items.number_weight)
    model.items.trained[:] = True
    return model.eval()


def test_numbers_that_are_near_have_features_that_are_near() -> None:
    catalogue = shop()
    features = ItemNumbers.find(catalogue.attributes).features(catalogue.attributes)
    assert features.shape == (40, BINS + 1)
    from_cheapest = np.abs(features - features[0]).sum(axis=1)
    assert (np.diff(from_cheapest) > 0).all()


def test_what_is_no_finite_number_is_missing_and_missing_has_no_features() -> None:
    attributes = shop(40).attributes
    odd = [{}, {"price": None}, {"price": True}, {"price": "5"}, {"price": [5]}, {"price": float("nan")}]
    odd += [{"price": float("inf")}, {"price": 10**400}]
    numbers = ItemNumbers.find([*attributes, *odd])
    assert not numbers.features(odd).any()
    far = numbers.features([{"price": -1e300}, {"price": 1}, {"price": 40.0}, {"price": 1e300}])
    np.testing.assert_array_equal(far[0], far[1])
    np.testing.assert_array_equal(far[2], far[3])


def test_rare_constant_and_too_many_attributes_are_not_read() -> None:
    rows = [{f"size {n:02}": float(row % (n + 3)) for n in range(30)} for row in range(200)]
    for row in rows[:9]:
        row["rare"] = 1.0
    assert len(ItemNumbers.find(rows).edges) == MAX_ATTRIBUTES
    rows = [{"same": 7, **({"rare": float(n)} if n < 9 else {})} for n in range(200)]
    assert ItemNumbers.find(rows).edges == {}
    assert ItemNumbers.find([]).width == 0


def test_only_items_with_numbers_depend_on_them(priced: Recommender) -> None:
    assert priced.items.number_weight is not None
    before = priced.item_vectors()
    assert np.abs(np.diff(before[:40], axis=0)).max(axis=1).min() > 1e-3
    with torch.no_grad():
        priced.items.number_weight.zero_()
    without = priced.item_vectors()
    np.testing.assert_allclose(without[40], before[40], atol=1e-6)
    assert np.abs(without[:40] - before[:40]).max(axis=1).min() > 1e-3


def test_a_new_item_has_its_own_number(priced: Recommender) -> None:
    moved = priced.with_catalogue(shop(40, {"price": 1.0}, {"price": 40.0}))
    vectors = moved.items.from_text(moved.text_vectors).detach()
    torch.testing.assert_close(vectors[40], vectors[0])
    torch.testing.assert_close(vectors[41], vectors[39])
    assert (vectors[0] - vectors[39]).abs().max() > 1e-3


def test_a_checkpoint_keeps_numbers(priced: Recommender, tmp_path: Path) -> None:
    save_recommender(priced, tmp_path)
    past = histories(priced.catalogue, liked("item-1", "item-30"), [])
    loaded = load_recommender(tmp_path)
    assert not any(loaded.catalogue.attributes)
    np.testing.assert_allclose(loaded.score(past), priced.score(past), atol=1e-5)
    again = loaded.with_catalogue(priced.catalogue)
    np.testing.assert_allclose(again.score(past), priced.score(past), atol=1e-5)


def test_an_older_checkpoint_reads_no_numbers(recommender: Recommender, tmp_path: Path) -> None:
    save_recommender(recommender, tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    del manifest["numbers"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    loaded = load_recommender(tmp_path)
    assert loaded.items.number_weight is None
    moved = loaded.with_catalogue(shop())
    assert moved.items.numbers.shape == (40, 0)
