"""Load a model version from MLflow for publishing."""

from dataclasses import dataclass
from typing import Any

from recsys.publishing.score import Explain, ExplainFactory, ServingModel
from recsys.settings import Settings


@dataclass(frozen=True)
class Servable:
    """A model version that is ready to score.

    Attributes
    ----------
    kind
        How it was trained: `full` or `micro`.
    parent
        The version its training started from.
    explain
        Creates the function that explains its lists; None leaves reasons empty.
    """

    model: ServingModel
    kind: str
    parent: str | None
    explain: ExplainFactory | None


def load_servable(settings: Settings, model_version: str) -> Servable:
    """Load a model version's checkpoint from MLflow.

    Raises
    ------
    RegistryError
        The version is unknown, or its files differ from those that were registered.
    CheckpointError
        This code cannot read the checkpoint.
    """
    # Imported here because reading published lists must not load torch and mlflow.
    from recsys.model.checkpoint import load_recommender
    from recsys.registry.versions import download_checkpoint, load_version

    tags = load_version(settings, model_version).tags
    model = load_recommender(download_checkpoint(settings, model_version))
    return Servable(model, tags["recsys.kind"], tags.get("recsys.parent_version"), explain_in_sentences)


def explain_in_sentences(scorer: Any) -> Explain:
    """Return the function that explains a scorer's lists with one sentence per item."""
    from recsys.model.explanation import ListExplainer

    explainer = ListExplainer(scorer)
    return lambda histories, users, items: explainer(histories, users, items).sentences()
