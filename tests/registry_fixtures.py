"""Fixtures of a registry: an MLflow database, and a tiny recommender's checkpoint as a training leaves it."""

import json
import shutil
import string
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from recsys.registry.lineage import Lineage
from recsys.snapshot.reference import SnapshotRef, TrainedThrough
from recsys.training.result import TrainingResult

if TYPE_CHECKING:
    from recsys.model.recommender import Recommender

Kind = Literal["full", "micro"]
ITEMS = [f"item{number}" for number in range(12)]


def result_of_training(folder: Path, kind: Kind = "full") -> TrainingResult:
    """The result of a training run that left its checkpoint in a folder."""
    return TrainingResult(
        checkpoint=str(folder / "checkpoint"),
        history=str(folder / "history.jsonl"),
        kind=kind,
        snapshot_uri="somewhere",
        snapshot_digest="d" * 64,
        trained_through=TrainedThrough(17, datetime(2026, 1, 2, tzinfo=UTC)),
        epochs=3,
        best_epoch=2,
        seconds=1.5,
        metrics={},
        stopped_because="patience",
    )


def lineage_of(snapshot: Path) -> Lineage:
    """The lineage of a full fine-tune on a snapshot."""
    return Lineage(
        snapshot=SnapshotRef(str(snapshot), "d" * 64, "full", 100, 1),
        window_ids=(1,),
        data_docs="file:///data_docs/index.html",
    )


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an MLflow database without runs; MLflow takes seconds to make one."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    uri = f"sqlite:///{path}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments()
    return path


@pytest.fixture
def mlflow_database(empty_mlflow: Path, tmp_path: Path) -> None:
    """A separate MLflow database for the test, in the place where the fixture `settings` expects it."""
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")


@pytest.fixture(scope="session")
def base_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT encoder with random weights: width 16, one layer, letters as tokens."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *string.digits]
    words += [f"##{word}" for word in words[5:]]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def recommender(base_encoder: Path) -> "Recommender":
    """An untrained recommender of twelve items."""
    import torch

    from recsys.model.recommender import Recommender
    from recsys.settings import ModelSettings
    from recsys.snapshot.event_types import EventTypes
    from recsys.snapshot.sequences import Catalogue

    torch.manual_seed(0)
    types = EventTypes.from_records(
        [
            {"event_type": "dislike", "explicit": True, "weight": 0.0, "polarity": -1},
            {
                "event_type": "rating", "explicit": True, "weight": 1.0, "polarity": 0,
                "min_value": 0.5, "max_value": 5.0, "negative_to": 2.0, "positive_from": 4.0,
            },
        ]
    )  # fmt: skip
    return Recommender.build(
        ModelSettings(base_encoder=str(base_encoder), dim=8, layers=1, heads=1, max_events=5),
        Catalogue.build(ITEMS, titles=[name.title() for name in ITEMS]),
        types,
    ).eval()


@pytest.fixture
def make_training(tmp_path: Path, recommender: "Recommender") -> Callable[..., TrainingResult]:
    """Write a finished training of a run and return its result."""
    import torch

    from recsys.model.checkpoint import save_recommender

    def make(run_key: str = "nightly:1", kind: Kind = "full", bias: float = 0.0) -> TrainingResult:
        folder = tmp_path / "trainings" / run_key.replace(":", "-")
        folder.mkdir(parents=True)
        model = recommender.clone()
        with torch.no_grad():
            model.items.ids.add_(bias)
        save_recommender(model, folder / "checkpoint")
        rows = [
            {"epoch": epoch, "loss": 1 / (1 + epoch), "validation_ndcg": 0.1 * epoch} for epoch in range(3)
        ]
        (folder / "history.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows) + '{"epoch": 3, "l'
        )
        return result_of_training(folder, kind)

    return make


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    """A full snapshot, which is not there, with Data Docs."""
    return lineage_of(tmp_path / "snapshots" / "full" / "1-abc")
