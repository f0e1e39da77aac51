"""A model on the real MiniLM, trained once on a small shop with known tastes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from recsys.model.recommender import Recommender
from recsys.settings import MicroUpdateSettings, ModelSettings, Settings, TrainingSettings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.full import fit_full
from tests.behaviour.shop import customers, shop_catalogue
from tests.small_models import EVENT_TYPES


@dataclass(frozen=True)
class Trained:
    """The trained model on the catalogue with all items, including new ones."""

    model: Recommender
    catalogue: Catalogue
    known: Sequences
    settings: Settings

    def ranks(self, scores: np.ndarray) -> dict[str, int]:
        """Return the rank of each item id for the first user; the best rank is 1."""
        order = np.argsort(-scores[0], kind="stable")
        return {str(self.catalogue.item_ids[item]): place + 1 for place, item in enumerate(order)}

    def mean_score(self, scores: np.ndarray, genre: str) -> np.ndarray:
        """Return the mean score [users] of a genre's items."""
        rows = [i for i, item in enumerate(self.catalogue.item_ids) if str(item).startswith(genre)]
        mean: np.ndarray = scores[:, rows].mean(axis=1)
        return mean


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model that is trained once per session."""
    home: Path = tmp_path_factory.mktemp("home")
    settings = Settings(
        home=home,
        model=ModelSettings(
            dim=32, layers=1, max_events=20, dropout=0.1, id_dropout=0.3, collaborative_penalty=10
        ),
        training=TrainingSettings(
            epochs=14,
            batch_size=32,
            learning_rate=3e-3,
            text_items_per_step=16,
            text_epochs=1,
            device="cpu",
        ),
        micro_update=MicroUpdateSettings(epochs=4, learning_rate=1e-3),
    )
    catalogue = shop_catalogue()
    known = customers(catalogue)
    fitted = fit_full(catalogue, EVENT_TYPES, known, settings, tmp_path_factory.mktemp("run"))
    return Trained(fitted.model, catalogue, known, settings)
