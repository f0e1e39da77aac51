"""Does the liking head mean what it says: calibration and discrimination on held-out likes and dislikes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from scipy.special import expit

from recsys.snapshot.sequences import Sequences

FILE = "liking.json"
_BINS = 10
_MAX_EVENTS = 20_000
_BATCH = 512


@runtime_checkable
class LikingModel(Protocol):
    """What is asked of a recommender."""

    def liking(self, histories: Sequences, items: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return [users] log odds that each likes the one item."""
        ...


@dataclass(frozen=True)
class Liking:
    """How well the predicted probability of a like fits.

    Attributes
    ----------
    events, liked_share
        Held-out likes and dislikes, and the share of likes.
    auc
        Chance that a liked event scores above a disliked one; None without both.
    ece
        Expected calibration error (Naeini et al., 2015): mean distance of prediction and outcome over
        ten equally wide bins.
    predicted, observed, counts
        [bins] of the reliability plot; bins without events are not there.
    """

    events: int
    liked_share: float
    auc: float | None
    ece: float
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    counts: tuple[int, ...]


def held_out_opinions(sequences: Sequences, since: int, seed: int = 0) -> NDArray[np.int64]:
    """Return positions of likes and dislikes from `since` (microseconds) on; a sample when there are many."""
    positions = np.flatnonzero((sequences.sentiment != 0) & (sequences.occurred_at >= since))
    if len(positions) > _MAX_EVENTS:
        positions = np.sort(np.random.default_rng(seed).choice(positions, _MAX_EVENTS, replace=False))
    return positions


def evaluate_liking(model: LikingModel, sequences: Sequences, positions: NDArray[np.int64]) -> Liking | None:
    """Predict each event's liking from what its user did before; None without events or with NaN."""
    if len(positions) == 0:
        return None
    logits = np.concatenate(
        [
            model.liking(sequences.prefixes(batch), sequences.item_index[batch])
            for batch in np.array_split(positions, max(1, len(positions) // _BATCH))
        ]
    )
    if np.isnan(logits).any():
        return None
    return liking_quality(expit(logits), sequences.sentiment[positions] > 0)


def liking_quality(probability: NDArray[np.float64], liked: NDArray[np.bool_]) -> Liking:
    """Compare predicted probabilities [events] with what happened [events]."""
    bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    full = counts > 0
    predicted = np.bincount(bins, probability, _BINS)[full] / counts[full]
    observed = np.bincount(bins, liked.astype(float), _BINS)[full] / counts[full]
    return Liking(
        events=len(liked),
        liked_share=float(liked.mean()),
        auc=area_under_curve(probability, liked),
        ece=float(counts[full] @ np.abs(predicted - observed) / len(liked)),
        predicted=tuple(predicted.tolist()),
        observed=tuple(observed.tolist()),
        counts=tuple(counts[full].tolist()),
    )


def area_under_curve(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve by ranks, ties counting half (Mann and Whitney, 1947)."""
    count, others = int(positive.sum()), int((~positive).sum())
    if count == 0 or others == 0:
        return None
    ranks = scipy.stats.rankdata(score)[positive].sum()
    return float((ranks - count * (count + 1) / 2) / (count * others))


def save_liking(liking: dict[str, Liking], folder: Path) -> None:
    """Write `liking.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {name: vars(each) for name, each in liking.items()}
    (folder / FILE).write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")


def load_liking(folder: Path) -> dict[str, Liking]:
    """Read what `save_liking` wrote; empty when nothing was."""
    path = folder / FILE
    if not path.is_file():
        return {}
    read: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {name: _liking(values) for name, values in read.items()}


def _liking(values: dict[str, Any]) -> Liking:
    parts: dict[str, Any] = {
        key: tuple(part) if isinstance(part, list) else part for key, part in values.items()
    }
    return Liking(**parts)
