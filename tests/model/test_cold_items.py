from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.cold_items import MIN_EVENTS, find_proxies
from recsys.model.collaborative import EASE, Popularity
from recsys.model.item_encoder import ItemEncoder
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings
from recsys.snapshot.sequences import Catalogue
from tests.small_models import histories, liked, theme_catalogue


def _parts(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)


def test_the_proxy_of_a_cold_item_is_the_most_similar_warm_item():
    parts = _parts([1.0, 0.0], [-1.0, 0.1], [0.9, 0.1], [0.0, -1.0])
    counts = torch.tensor([20.0, 20.0, 0.0, MIN_EVENTS - 1])

    proxies = find_proxies(parts, counts)

    assert proxies.tolist()[:3] == [0, 1, 0]
    assert proxies[3] in (0, 1)


def test_without_warm_items_every_item_is_its_own_proxy():
    assert find_proxies(torch.randn(3, 4), torch.zeros(3)).tolist() == [0, 1, 2]


def test_a_cold_item_is_never_a_proxy_of_another_item():
    torch.manual_seed(0)
    counts = torch.randint(0, 2 * MIN_EVENTS, (3_000,)).float()

    proxies = find_proxies(torch.randn(3_000, 8), counts)

    assert (counts[proxies] >= MIN_EVENTS).all()
    warm = (counts >= MIN_EVENTS).nonzero()[:, 0]
    assert torch.equal(proxies[warm], warm)


@pytest.mark.parametrize(("events", "uses_proxy"), [(4, True), (5, False)])
def test_an_item_is_scored_like_its_proxy_until_it_has_five_events(
    recommender: Recommender, catalogue: Catalogue, events: int, uses_proxy: bool
) -> None:
    others = [item for item in catalogue.item_ids if item != "space-11"]
    together, alone = [liked(*others)] * 10, [liked("space-11")] * events
    world = histories(catalogue, *together, *alone)
    recommender.collaborative = EASE.fit(world, len(catalogue), 1.0)
    recommender.popularity = Popularity.fit(world, len(catalogue))
    recommender.update_proxies()
    past = histories(catalogue, liked("crime-0"))
    standardised = recommender.parts(past)["collaborative"][0, catalogue.index["space-11"]]
    # All other items were consumed together, space-11 only alone: without a proxy it scores below the mean.
    assert (standardised > 0) == uses_proxy


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of items whose proxies are looked for, one for each search."""
    found: list[int] = []

    def counting(parts: torch.Tensor, counts: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        found.append(int(wanted.sum()))
        return find_proxies(parts, counts, wanted)

    monkeypatch.setattr("recsys.model.recommender.find_proxies", counting)
    return found


@pytest.fixture
def checkpoint(recommender: Recommender, catalogue: Catalogue, tmp_path: Path) -> Path:
    """A model that knows all items but two from events."""
    others = [item for item in catalogue.item_ids if item not in ("space-11", "crime-11")]
    recommender.popularity = Popularity.fit(histories(catalogue, *[liked(*others)] * 10), len(catalogue))
    recommender.update_proxies()
    save_recommender(recommender, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_loaded_model_looks_for_no_proxies_if_the_catalogue_is_the_same(
    recommender: Recommender, catalogue: Catalogue, checkpoint: Path, searches: list[int]
) -> None:
    loaded = load_recommender(checkpoint).with_catalogue(catalogue)
    assert torch.equal(loaded.proxies, recommender.proxies)
    assert (loaded.proxies != torch.arange(len(catalogue))).sum() == 2
    assert searches == []


def test_proxies_are_looked_for_where_items_are_new_or_have_lost_theirs(
    recommender: Recommender, catalogue: Catalogue, checkpoint: Path, searches: list[int]
) -> None:
    lost = int(recommender.proxies[catalogue.index["space-11"]])
    larger = theme_catalogue(extra=(("new", "rocket planet"),))
    rows = [row for row, item in enumerate(larger.item_ids) if item != catalogue.item_ids[lost]]
    moved = load_recommender(checkpoint).with_catalogue(larger.take(np.array(rows)))
    assert searches == [2]
    carried = moved.proxies.clone()
    moved.update_proxies()
    assert torch.equal(carried, moved.proxies)


def test_the_proxy_of_an_item_with_another_text_is_looked_for(
    catalogue: Catalogue, checkpoint: Path, searches: list[int]
) -> None:
    changed = theme_catalogue(11, extra=(("crime-11", "rocket planet"),))
    moved = load_recommender(checkpoint).with_catalogue(changed)
    assert searches == [1]
    carried = moved.proxies.clone()
    moved.update_proxies()
    assert torch.equal(carried, moved.proxies)


def test_an_older_checkpoint_without_proxies_looks_for_them(
    recommender: Recommender, catalogue: Catalogue, checkpoint: Path, searches: list[int]
) -> None:
    items = checkpoint / "items.parquet"
    pq.write_table(pq.read_table(items).drop_columns(["proxy"]), items)
    loaded = load_recommender(checkpoint).with_catalogue(catalogue)
    assert torch.equal(loaded.proxies, recommender.proxies)
    assert searches == [len(catalogue)]


def test_an_untrained_item_uses_its_proxys_id_vector_and_starts_training_with_it():
    encoder = ItemEncoder(ModelSettings(dim=4, heads=1), text_width=3, n_items=3).eval()
    encoder.trained[:2] = True
    text = torch.zeros(3, 3)
    proxies = torch.tensor([0, 1, 1])

    vectors = encoder(text, proxies=proxies)
    assert torch.equal(vectors[2], vectors[1])
    assert not torch.equal(encoder(text)[2], vectors[2])

    encoder.start_training(torch.tensor([2]), proxies)
    assert torch.equal(encoder(text)[2], vectors[2])
    encoder.start_training(torch.tensor([0]), proxies)
    assert torch.equal(encoder(text)[0], vectors[0])
