"""Calibration and discrimination of the liking head on held-out likes and dislikes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.special import expit

from recsys.evaluation.json_files import read_json, write_json
from recsys.snapshot.parts import sortable, take_keys
from recsys.snapshot.sequences import Sequences, parts_of

_FILE = "liking.json"
_BINS = 10
_MAX_EVENTS = 20_000
_BATCH = 512


@runtime_checkable
class LikingModel(Protocol):
    """A model that predicts likes."""

    def liking(self, histories: Sequences, items: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return [users] log odds that each user likes the one item."""
        ...


@dataclass(frozen=True)
class Liking:
    """How well the predicted probabilities of a like fit the outcomes.

    Attributes
    ----------
    events, liked_share
        Held-out likes and dislikes, and the share of likes.
    auc
        Probability that a liked event scores above a disliked one; None without both.
    ece
        Expected calibration error (Naeini et al., 2015): mean distance between prediction and outcome over
        ten bins of equal width.
    predicted, observed, counts
        [bins] of the reliability plot; empty bins are left out.
    """

    events: int
    liked_share: float
    auc: float | None
    ece: float
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    counts: tuple[int, ...]


def held_out_opinions(
    sequences: Sequences | Sequence[Sequences], since: int, seed: int = 0
) -> tuple[Sequences, NDArray[np.int64]]:
    """Find likes and dislikes from `since` (microseconds) on; at most 20,000, sampled.

    Parameters
    ----------
    sequences
        Events of all users, or parts with some of the users; one part is loaded at a time.

    Returns
    -------
    The sequences of their users, and the positions in them.
    """
    parts = parts_of(sequences)
    found: list[NDArray[np.object_]] = []
    numbers: list[NDArray[np.int64]] = []
    for part in parts:
        of_users = np.bincount(part.event_users()[_are_opinions(part, since)], minlength=part.users)
        found.append(part.user_keys[of_users > 0])
        numbers.append(of_users[of_users > 0])
        del part  # frees it before another one is loaded
    keys = sortable(np.concatenate(found))
    order = np.argsort(keys, kind="stable")
    counts = np.concatenate(numbers)[order]
    # Opinions are numbered in the order of users and times, whoever is in which part.
    chosen = np.arange(counts.sum())
    if len(chosen) > _MAX_EVENTS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), _MAX_EVENTS, replace=False))
    ends = np.cumsum(counts)
    users, of_chosen = np.unique(np.searchsorted(ends, chosen, side="right"), return_inverse=True)
    kept = take_keys(parts, keys[order[users]])
    skipped = (ends - counts)[users] - (np.cumsum(counts[users]) - counts[users])
    return kept, np.flatnonzero(_are_opinions(kept, since))[chosen - skipped[of_chosen]]


def _are_opinions(sequences: Sequences, since: int) -> NDArray[np.bool_]:
    return np.asarray((sequences.sentiment != 0) & (sequences.occurred_at >= since))


def evaluate_liking(model: LikingModel, sequences: Sequences, positions: NDArray[np.int64]) -> Liking | None:
    """Predict each like or dislike from the user's earlier events; None without events or with NaN."""
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
    """Compare predicted probabilities [events] with outcomes [events]."""
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
    """Return the area under the ROC curve by ranks; ties count half (Mann and Whitney, 1947)."""
    count, others = int(positive.sum()), int((~positive).sum())
    if count == 0 or others == 0:
        return None
    from scipy.stats import rankdata  # takes a second to import, and what publishes needs none of it

    ranks = rankdata(score)[positive].sum()
    return float((ranks - count * (count + 1) / 2) / (count * others))


_ADAPTER = TypeAdapter(dict[str, Liking])


def save_liking(liking: dict[str, Liking], folder: Path) -> None:
    """Write `liking.json`."""
    write_json(folder / _FILE, _ADAPTER, liking)


def load_liking(folder: Path) -> dict[str, Liking]:
    """Read what `save_liking` wrote; empty when there is no file."""
    path = folder / _FILE
    return read_json(path, _ADAPTER) if path.is_file() else {}
