"""Models to compare with that need more than a log of feedback: RecTools' SASRec and LiGR, and text.

Items without a single event are ranked by their text or attributes: popularity by genre (any attribute), and
the nearest neighbours of a user's items by the vectors of the frozen text encoder.
"""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from benchmarks.cases import MAX_TUNING_CASES, Task
from recsys.errors import ConfigurationError
from recsys.model.co_occurrences import interaction_matrix
from recsys.model.recommender import Recommender
from recsys.model.requests import attribute_phrases
from recsys.settings import ModelSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.targets import hidden_items

PEER_PYTHON = Path(__file__).parents[1] / ".bench-peers/bin/python"
SASREC_GRID = "64:0.2,64:0.4,128:0.2,128:0.4"
"""Widths and dropouts to try."""
SASREC_PATIENCE = 15
"""Epochs without a better validation after which training stops."""


@dataclass(frozen=True)
class Precomputed:
    """Scores [cases, items] of the test cases that another process computed."""

    scores: NDArray[np.float32]


def write_split(task: Task, n_items: int, path: Path) -> None:
    """Write the input of `rectools_sasrec.py`: training events in time order, validation and test cases."""
    train, cases = task.train, task.tuning
    order = np.argsort(train.occurred_at, kind="stable")
    test = task.test.histories(np.arange(len(task.test)))
    # A basket of several targets becomes several cases.
    chosen = np.sort(np.random.default_rng(0).permutation(len(cases.targets))[:MAX_TUNING_CASES])
    validation = cases.histories(cases.case_of_target[chosen])
    hidden_rows, hidden = hidden_items(validation)
    np.savez(
        path,
        users=train.event_users()[order],
        items=train.item_index[order],
        validation_offsets=validation.offsets,
        validation_items=validation.item_index,
        validation_targets=cases.targets[chosen],
        hidden_rows=hidden_rows,
        hidden_items=hidden,
        test_offsets=test.offsets,
        test_items=test.item_index,
        n_items=n_items,
    )


def require_rectools() -> None:
    """Raise ConfigurationError if RecTools' environment does not exist."""
    if not PEER_PYTHON.is_file():
        raise ConfigurationError(
            "RecTools is not installed: run `make bench-peers`, or leave out sasrec and ligr with --models"
        )


def run_sasrec(split_file: Path, output: Path, *, seed: int, **options: float | str) -> dict[str, Any]:
    """Train RecTools' SASRec in its own environment and return its report.

    Raises
    ------
    ConfigurationError
        The environment does not exist.
    """
    require_rectools()
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    script = Path(__file__).with_name("rectools_sasrec.py")
    command = [PEER_PYTHON, script, split_file, output, f"--seed={seed}", *arguments]
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"SASRec failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(output.with_suffix(".json").read_text()))


def fit_sasrec(
    split_file: Path, output: Path, seed: int, length: int, options: Mapping[str, float | str]
) -> tuple[Precomputed, dict[str, Any]]:
    """Train once on users' latest `length` events; return the scores of the test cases and the report."""
    report = run_sasrec(split_file, output, seed=seed, length=length, **options)
    return Precomputed(np.load(output.with_suffix(".npy"))), report | {"options": dict(options)}


def parse_grid(text: str, **limits: float) -> list[dict[str, float]]:
    """Return the settings in a text such as `64:0.2,128:0.4:0.002`, each with the same limits of training.

    An entry is width, dropout and, if it is not to be RecTools' usual one, learning rate.
    """
    names = ("factors", "dropout", "learning_rate")
    settings: list[dict[str, float]] = []
    for entry in text.split(","):
        numbers = entry.split(":")
        if not 2 <= len(numbers) <= len(names):
            raise ConfigurationError(f"{entry!r} is not width:dropout or width:dropout:learning rate")
        values = [int(numbers[0]), *map(float, numbers[1:])]
        settings.append(dict(zip(names, values, strict=False)) | limits)
    return settings


class PopularityByAttribute:
    """Popularity of an item's attributes, weighted by how often they occur in the user's history.

    An item without events has the mean popularity of the items that share an attribute with it.
    """

    def __init__(self, catalogue: Catalogue, known: Sequences) -> None:
        words = [set(attribute_phrases(attributes)) for attributes in catalogue.attributes]
        names = {word: row for row, word in enumerate(sorted(set().union(*words)))}
        rows = [(item, names[word]) for item, own in enumerate(words) for word in own]
        pairs = np.array(rows or np.zeros((0, 2)), dtype=np.int64)
        self.has = scipy.sparse.csr_matrix(
            (np.ones(len(pairs), dtype=np.float32), (pairs[:, 0], pairs[:, 1])),
            shape=(len(catalogue), max(len(names), 1)),
        )
        counts = np.bincount(known.item_index, minlength=len(catalogue)).astype(np.float32)
        members = np.maximum(np.asarray(self.has[counts > 0].sum(0)).ravel(), 1)
        self.popularity = np.asarray(self.has.T @ counts).ravel() / members
        self.size = np.maximum(np.asarray(self.has.sum(1)).ravel(), 1)

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return [users, items]."""
        taste = interaction_matrix(histories, self.has.shape[0], negative=1.0) @ self.has
        weighted = taste.multiply(self.popularity[None, :]).tocsr()
        return np.asarray((weighted @ self.has.T).todense() / self.size[None, :], dtype=np.float32)


class TextNeighbours:
    """Cosine of an item's frozen text vector and the mean vector of the user's latest items."""

    def __init__(self, catalogue: Catalogue, event_types: EventTypes, latest: int = 50) -> None:
        settings = ModelSettings(fine_tuning="frozen")
        vectors = Recommender.build(settings, catalogue, event_types).text_vectors.numpy()
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.latest = latest

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return [users, items]."""
        matrix = interaction_matrix(histories, len(self.vectors), negative=1.0, max_events=self.latest)
        return np.asarray((matrix @ self.vectors) @ self.vectors.T, dtype=np.float32)


def timed(fit: Callable[[], tuple[Any, dict[str, Any]]]) -> tuple[Any, dict[str, Any], float]:
    """Return the results of `fit` and the seconds it took."""
    started = time.monotonic()
    scorer, details = fit()
    return scorer, details, time.monotonic() - started
