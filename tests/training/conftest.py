"""A tiny text encoder, a small world and a model trained on it, once per session."""

from pathlib import Path

import pytest

from recsys.settings import Settings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.full import Fitted, fit_full
from tests.small_models import EVENT_TYPES, small_settings, theme_catalogue, theme_world, write_tiny_encoder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny text encoder."""
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """Items of three themes."""
    return theme_catalogue()


@pytest.fixture(scope="session")
def world(catalogue: Catalogue) -> Sequences:
    """Users who each like one theme."""
    return theme_world(catalogue)


@pytest.fixture(scope="session")
def quick(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a small model that trains for four epochs."""
    return small_settings(tmp_path_factory.mktemp("home"), encoder_folder)


@pytest.fixture(scope="session")
def fitted(
    catalogue: Catalogue, world: Sequences, quick: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Fitted:
    """A model after a quick full fine-tune; treat it as read-only."""
    return fit_full(catalogue, EVENT_TYPES, world, quick, tmp_path_factory.mktemp("run"))
