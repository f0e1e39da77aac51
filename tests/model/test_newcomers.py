import pytest
import torch

from recsys.model.collaborative import EASE, Popularity
from recsys.model.item_encoder import ItemEncoder
from recsys.model.newcomers import LEAST_EVENTS, find_stand_ins
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings
from recsys.snapshot.sequences import Catalogue
from tests.small_models import histories, liked


def _parts(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)


def test_the_well_known_item_most_like_a_newcomer_stands_in_for_it():
    parts = _parts([1.0, 0.0], [-1.0, 0.1], [0.9, 0.1], [0.0, -1.0])
    counts = torch.tensor([20.0, 20.0, 0.0, LEAST_EVENTS - 1])

    stand_ins = find_stand_ins(parts, counts)

    assert stand_ins.tolist()[:3] == [0, 1, 0]
    assert stand_ins[3] in (0, 1)


def test_without_well_known_items_everyone_stands_for_themselves():
    assert find_stand_ins(torch.randn(3, 4), torch.zeros(3)).tolist() == [0, 1, 2]


def test_newcomers_never_stand_in_for_newcomers():
    torch.manual_seed(0)
    counts = torch.randint(0, 2 * LEAST_EVENTS, (3_000,)).float()

    stand_ins = find_stand_ins(torch.randn(3_000, 8), counts)

    assert (counts[stand_ins] >= LEAST_EVENTS).all()
    known = (counts >= LEAST_EVENTS).nonzero()[:, 0]
    assert torch.equal(stand_ins[known], known)


@pytest.mark.parametrize(("events", "lent"), [(4, True), (5, False)])
def test_an_item_is_scored_as_its_stand_in_until_it_has_five_events(
    recommender: Recommender, catalogue: Catalogue, events: int, lent: bool
) -> None:
    others = [item for item in catalogue.item_ids if item != "space-11"]
    together, alone = [liked(*others)] * 10, [liked("space-11")] * events
    world = histories(catalogue, *together, *alone)
    recommender.collaborative = EASE.fit(world, len(catalogue), 1.0)
    recommender.popularity = Popularity.fit(world, len(catalogue))
    recommender.seat_newcomers()
    past = histories(catalogue, liked("crime-0"))
    standardised = recommender.parts(past)["collaborative"][0, catalogue.index["space-11"]]
    # Nobody had it together with another item, as all those were: of its own it scores below their mean.
    assert (standardised > 0) == lent


def test_an_id_part_is_lent_to_who_has_none_and_kept_when_it_is_met():
    encoder = ItemEncoder(ModelSettings(dim=4, heads=1), text_width=3, n_items=3).eval()
    encoder.trained[:2] = True
    text = torch.zeros(3, 3)
    lent_by = torch.tensor([0, 1, 1])

    lent = encoder(text, lent_by=lent_by)
    assert torch.equal(lent[2], lent[1])
    assert not torch.equal(encoder(text)[2], lent[2])

    encoder.meet(torch.tensor([2]), lent_by)
    assert torch.equal(encoder(text)[2], lent[2])
    encoder.meet(torch.tensor([0]), lent_by)
    assert torch.equal(encoder(text)[0], lent[0])
