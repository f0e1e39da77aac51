"""Training learns what numbers among the attributes say about items without events."""

from pathlib import Path

import numpy as np

from recsys.settings import Settings
from recsys.snapshot.catalogue import Catalogue
from recsys.training.full import fit_full
from tests.small_models import EVENT_TYPES, histories, liked


def test_new_items_are_ranked_by_the_prices_that_a_user_pays(quick: Settings, tmp_path: Path) -> None:
    prices = list(range(1, 41))
    catalogue = Catalogue.build(
        [f"item-{price}" for price in prices], ["thing"] * 40, None, [{"price": price} for price in prices]
    )
    # Only the number tells items apart.
    catalogue.texts[:] = ["thing"] * 40
    new = [5, 15, 25, 35]
    rng = np.random.default_rng(0)
    cheap = [f"item-{price}" for price in prices[:20] if price not in new]
    dear = [f"item-{price}" for price in prices[20:] if price not in new]
    users = [liked(*rng.permutation(own)[:8]) for _ in range(60) for own in (cheap, dear)]
    settings = quick.model_copy(
        update={"training": quick.training.model_copy(update={"epochs": 15, "learning_rate": 5e-3})}
    )
    model = fit_full(catalogue, EVENT_TYPES, histories(catalogue, *users), settings, tmp_path).model
    positions = [price - 1 for price in new]
    assert not model.items.trained[positions].any()
    past = histories(catalogue, liked(*cheap[:4]), liked(*dear[:4]))
    scores = model.score(past)[:, positions]
    assert scores[0, :2].min() > scores[0, 2:].max()
    assert scores[1, 2:].min() > scores[1, :2].max()
