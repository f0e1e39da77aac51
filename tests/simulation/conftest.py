"""Ratings by users of two kinds of taste, and a world fitted on them."""

import numpy as np
import pandas as pd
import pytest

from recsys.simulation.world import World, WorldSettings, fit_world


def made_ratings(users: int = 300, items: int = 40, each: int = 15, seed: int = 0) -> pd.DataFrame:
    """Return ratings in which even users like even items and odd users like odd ones."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for item in generator.choice(items, each, replace=False):
            liked = (user + item) % 2 == 0
            rows.append(
                (f"u{user:04d}", f"i{item:03d}", float(np.clip(2 + 2 * liked + generator.normal(), 1, 5)))
            )
    return pd.DataFrame(rows, columns=["user_id", "item_id", "value"])


@pytest.fixture(scope="session")
def ratings() -> pd.DataFrame:
    return made_ratings()


@pytest.fixture
def world(ratings: pd.DataFrame) -> World:
    return fit_world(ratings, WorldSettings(dim=4))
