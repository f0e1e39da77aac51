import pytest

from recsys.errors import SnapshotError
from recsys.snapshot.catalogue import Catalogue


def test_lookup_returns_the_position_and_minus_one_for_an_unknown_item() -> None:
    catalogue = Catalogue.build(["b", "a"], ["Bee", "Ay"], attributes=[{"k": "v"}, {}])
    assert catalogue.lookup(["a", "b", "c"]).tolist() == [1, 0, -1]
    assert catalogue.texts == ["Bee. k: v", "Ay"]
    assert catalogue.available.all()


def test_a_duplicate_item_is_refused() -> None:
    with pytest.raises(SnapshotError, match="only once"):
        Catalogue.build(["a", "a"], ["one", "two"])


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(SnapshotError, match="differ in length"):
        Catalogue.build(["a", "b"], ["one", "two"], available=[True])
