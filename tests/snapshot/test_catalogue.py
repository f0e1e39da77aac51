import pytest

from recsys.errors import SnapshotError
from recsys.snapshot.catalogue import Catalogue


def test_items_are_found_by_id_and_unknown_ones_at_minus_one() -> None:
    catalogue = Catalogue.build(["b", "a"], ["Bee", "Ay"], attributes=[{"k": "v"}, {}])
    assert catalogue.lookup(["a", "b", "c"]).tolist() == [1, 0, -1]
    assert catalogue.texts == ["Bee. k: v", "Ay"]
    assert catalogue.available.all()


def test_an_item_named_twice_is_refused() -> None:
    with pytest.raises(SnapshotError, match="only once"):
        Catalogue.build(["a", "a"], ["one", "two"])


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(SnapshotError, match="differ in length"):
        Catalogue.build(["a", "b"], ["one", "two"], available=[True])
