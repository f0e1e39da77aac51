"""A tiny text encoder, once per session, and an untrained recommender on it."""

from pathlib import Path

import pytest
import torch

from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue
from tests.small_models import EVENT_TYPES, small_settings, theme_catalogue, write_tiny_encoder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny text encoder."""
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """Items of three themes."""
    return theme_catalogue()


@pytest.fixture
def recommender(encoder_folder: Path, catalogue: Catalogue, tmp_path: Path) -> Recommender:
    """A recommender with random weights, in which all items count as trained."""
    torch.manual_seed(0)
    settings = small_settings(tmp_path, encoder_folder)
    model = Recommender.build(settings.model, catalogue, EVENT_TYPES)
    model.items.trained[:] = True
    return model.eval()
