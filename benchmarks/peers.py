"""Models to compare with: popularity, item-kNN, EASE and RecTools' SASRec, each tuned on validation.

They cannot rank items without a single event. For those there are popularity by genre (any attribute) and the
nearest neighbours of a user's items by the vectors of the frozen text encoder.
"""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from benchmarks.splits import Protocol
from recsys.errors import ConfigurationError
from recsys.evaluation.ranking.scorer import Scorer
from recsys.model.collaborative import EASE, Popularity, interaction_matrix
from recsys.model.fusion import ndcg_of_ranks, target_ranks
from recsys.model.recommender import Recommender
from recsys.model.requests import attribute_phrases
from recsys.settings import ModelSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences

PEER_PYTHON = Path(__file__).parents[1] / ".bench-peers/bin/python"
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0)
NEIGHBOURS = (20, 50, 200, 1000)
SHRINKAGES = (0.0, 20.0)
SASREC_GRID = "64:0.2,64:0.4,128:0.2,128:0.4"
"""Widths and dropouts to try."""
_SCORE_BATCH = 1024


@dataclass(frozen=True)
class Dense:
    """An item-to-item model with dense weights, which are faster than sparse ones on small catalogues."""

    weights: NDArray[np.float32]

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return [users, items]."""
        return np.asarray(interaction_matrix(histories, len(self.weights), negative=1.0) @ self.weights)


def fit_popularity(split: Protocol, n_items: int) -> tuple[Scorer, dict[str, Any]]:
    """Fit popularity."""
    return Popularity.fit(split.known, n_items), {}


def fit_ease(split: Protocol, n_items: int) -> tuple[Scorer, dict[str, Any]]:
    """Fit EASE with the penalty that ranks the validation cases best."""

    def fit(sequences: Sequences, penalty: float) -> Dense:
        return Dense(np.asarray(EASE.fit(sequences, n_items, penalty).weights.todense(), dtype=np.float32))

    return _tuned(split, n_items, fit, [(penalty,) for penalty in PENALTIES], ("penalty",))


def fit_item_knn(split: Protocol, n_items: int) -> tuple[Scorer, dict[str, Any]]:
    """Fit item-kNN by cosine with shrinkage; validation chooses neighbours and shrinkage."""

    def fit(sequences: Sequences, neighbours: float, shrinkage: float) -> Dense:
        matrix = interaction_matrix(sequences, n_items, negative=1.0)
        together = np.asarray((matrix.T @ matrix).todense(), dtype=np.float32)
        norm = np.sqrt(np.diag(together))
        similarity = together / (norm[:, None] * norm[None, :] + shrinkage + 1e-9)
        np.fill_diagonal(similarity, 0.0)
        if neighbours < n_items:
            cut = np.partition(similarity, n_items - int(neighbours), axis=0)[n_items - int(neighbours)]
            similarity[similarity < cut] = 0.0
        return Dense(similarity)

    return _tuned(split, n_items, fit, list(product(NEIGHBOURS, SHRINKAGES)), ("neighbours", "shrinkage"))


def _tuned(
    split: Protocol,
    n_items: int,
    fit: Callable[..., Dense],
    options: Sequence[tuple[float, ...]],
    names: Sequence[str],
) -> tuple[Scorer, dict[str, Any]]:
    cases = split.validation.cases
    excluded = cases.excluded(n_items)
    quality = {}
    for option in options:
        model = fit(split.validation.train, *option)
        quality[option] = ndcg_of_ranks(
            target_ranks(model.score(cases.histories), cases.targets, excluded), 10
        ).mean()
    best = max(options, key=quality.__getitem__)
    return fit(split.known, *best), dict(zip(names, best, strict=True))


@dataclass(frozen=True)
class Precomputed:
    """Scores [cases, items] of the test cases that another process computed."""

    scores: NDArray[np.float32]


def write_split(split: Protocol, n_items: int, path: Path) -> None:
    """Write the input of `rectools_sasrec.py`: training events in time order, validation and test cases."""
    train, validation = split.validation.train, split.validation.cases
    order = np.argsort(train.occurred_at, kind="stable")
    test = split.cases.histories(np.arange(len(split.cases)))
    np.savez(
        path,
        users=train.event_users()[order],
        items=train.item_index[order],
        validation_offsets=validation.histories.offsets,
        validation_items=validation.histories.item_index,
        validation_targets=validation.targets,
        test_offsets=test.offsets,
        test_items=test.item_index,
        n_items=n_items,
    )


def run_sasrec(split_file: Path, output: Path, *, seed: int, **options: float | str) -> dict[str, Any]:
    """Train RecTools' SASRec in its own environment and return its report.

    Raises
    ------
    ConfigurationError
        The environment does not exist.
    """
    if not PEER_PYTHON.is_file():
        raise ConfigurationError("RecTools is not installed: run `make bench-peers`, or leave out sasrec")
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    script = Path(__file__).with_name("rectools_sasrec.py")
    command = [PEER_PYTHON, script, split_file, output, f"--seed={seed}", *arguments]
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"SASRec failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(output.with_suffix(".json").read_text()))


def fit_sasrec(
    split_file: Path, output: Path, seed: int, length: int, options: Mapping[str, float]
) -> tuple[Precomputed, dict[str, Any]]:
    """Train once on users' latest `length` events; return the scores of the test cases and the report."""
    report = run_sasrec(split_file, output, seed=seed, length=length, **options)
    return Precomputed(np.load(output.with_suffix(".npy"))), report | {"options": dict(options)}


def parse_grid(text: str) -> list[dict[str, float]]:
    """Return the settings in a text such as `64:0.2,128:0.4`."""
    pairs = (entry.split(":") for entry in text.split(","))
    return [{"factors": int(factors), "dropout": float(dropout)} for factors, dropout in pairs]


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
