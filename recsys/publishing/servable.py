"""Load a model version from MLflow for publishing."""

import logging
from dataclasses import dataclass
from typing import Any

from recsys.publishing.score import Explain, ExplainFactory, ServingModel
from recsys.settings import Settings
from recsys.snapshot.catalogue import Catalogue

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Servable:
    """A model version that is ready to score.

    Attributes
    ----------
    kind
        How it was trained: `full` or `micro`; None where nobody asks for it.
    parent
        The version its training started from.
    explain
        Creates the function that explains its lists; None leaves reasons empty.
    device
        Where batches are scored: `cpu`, or a GPU such as `cuda:0`.
    """

    model: ServingModel
    kind: str | None
    parent: str | None
    explain: ExplainFactory | None
    device: str = "cpu"

    def on_catalogue(self, catalogue: Catalogue) -> tuple[ServingModel, str]:
        """Return the model for another catalogue on the device, and the device.

        It is the CPU, and the log says so, if a GPU refuses the model.
        """
        model = self.model.with_catalogue(catalogue)
        if self.device == "cpu":
            return model, "cpu"
        try:
            return model.to(self.device), self.device
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            logger.warning("%s refuses the model, so the CPU scores: %s", self.device, reason)
            return self.model.with_catalogue(catalogue), "cpu"


def load_servable(settings: Settings, model_version: str, *, device: str = "auto") -> Servable:
    """Load a model version's checkpoint from MLflow.

    Parameters
    ----------
    device
        Where batches will be scored; `auto`: on a GPU if there is one.

    Raises
    ------
    RegistryError
        The version is unknown, or its files differ from those that were registered.
    CheckpointError
        This code cannot read the checkpoint.
    """
    # Imported here because reading published lists must not load torch and mlflow.
    from recsys.model.checkpoint import load_recommender
    from recsys.model.device import choose_device
    from recsys.registry.versions import download_checkpoint, load_version

    tags = load_version(settings, model_version).tags
    return Servable(
        load_recommender(download_checkpoint(settings, model_version)),
        tags["recsys.kind"],
        tags.get("recsys.parent_version"),
        explain_in_sentences,
        str(choose_device(device)),
    )


def load_servable_on_cpu(settings: Settings, model_version: str) -> Servable:
    """Load a model version for the CPU, whatever else there is; see `load_servable`."""
    return load_servable(settings, model_version, device="cpu")


def load_planned(settings: Settings, model_version: str, *, device: str = "auto") -> Servable:
    """Load a version that whoever planned a publication has found in MLflow.

    If a sound copy of its checkpoint is on this machine, MLflow is neither imported nor asked. Otherwise it
    does what `load_servable` does.
    """
    from recsys.model.checkpoint import load_recommender
    from recsys.model.device import choose_device
    from recsys.registry.local_copies import find_checkpoint

    folder = find_checkpoint(settings, model_version)
    if folder is None:
        return load_servable(settings, model_version, device=device)
    return Servable(load_recommender(folder), None, None, explain_in_sentences, str(choose_device(device)))


def load_planned_on_cpu(settings: Settings, model_version: str) -> Servable:
    """Load a version for the CPU, whatever else there is; see `load_planned`."""
    return load_planned(settings, model_version, device="cpu")


def explain_in_sentences(scorer: Any) -> Explain:
    """Return the function that explains a scorer's lists with one sentence per item."""
    from recsys.model.explanation import ListExplainer

    explainer = ListExplainer(scorer)
    return lambda histories, users, items, texts: explainer(histories, users, items).sentences(texts)
