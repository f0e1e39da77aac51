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


@pytest.mark.parametrize(
    ("variant_of", "group"),
    [
        ([None, None, None, None], [0, 1, 2, 3]),
        (["film", None, "film", None], [0, 1, 0, 3]),
        ([None, "a", None, None], [0, 0, 2, 3]),  # b is a variant of a
        (["a", None, None, None], [0, 1, 2, 3]),  # a stands for itself
        ([None, "a", "b", "c"], [0, 0, 0, 0]),  # a chain
        (["c", None, "d", "a"], [0, 1, 0, 0]),  # a circle
        ([None, "x", "x", "a"], [0, 1, 1, 0]),
    ],
)
def test_items_that_name_each_other_or_the_same_are_one_group(
    variant_of: list[str | None], group: list[int]
) -> None:
    catalogue = Catalogue.build(list("abcd"), list("abcd"), variant_of=variant_of)
    assert catalogue.group.tolist() == group
    counts = [group.count(number) for number in group]
    assert catalogue.variants.tolist() == [item for item, count in enumerate(counts) if count > 1]


def test_a_part_of_a_catalogue_has_its_own_groups() -> None:
    catalogue = Catalogue.build(list("abcd"), list("abcd"), variant_of=["g", None, "g", "g"])
    assert catalogue.take([3, 1, 2]).group.tolist() == [0, 1, 0]
    assert catalogue.take([1, 3]).group.tolist() == [0, 1]
