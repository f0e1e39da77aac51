"""A model version ready to score: its checkpoint from MLflow, its lineage and its reasons."""

from dataclasses import dataclass
from typing import Any

from recsys.publishing.score import Explain, Explainer, ServingModel
from recsys.settings import Settings


@dataclass(frozen=True)
class Servable:
    """The model, how it was trained (`full` or `micro`), the version it started from, its reasons."""

    model: ServingModel
    kind: str
    parent: str | None
    explain: Explainer | None


def load_servable(settings: Settings, model_version: str) -> Servable:
    """Load a model version's checkpoint from MLflow.

    Raises
    ------
    RegistryError
        The version is unknown or its files are not those that were registered.
    CheckpointError
        This code cannot read the checkpoint.
    """
    # torch and mlflow load here, not for those who only read what is published.
    from recsys.model.checkpoint import load_recommender
    from recsys.registry.versions import download_checkpoint, load_version

    tags = load_version(settings, model_version).tags
    model = load_recommender(download_checkpoint(settings, model_version))
    return Servable(model, tags["recsys.kind"], tags.get("recsys.parent_version"), sentences)


def sentences(scorer: Any) -> Explain:
    """Explain lists in one plain sentence for each item."""
    from recsys.model.explanation import ListExplainer

    explainer = ListExplainer(scorer)
    return lambda histories, users, items: explainer(histories, users, items).sentences()
