"""Split data sets into training, validation and test, identically for all models."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import Dataset
from recsys.errors import ConfigurationError
from recsys.evaluation.ranking.cases import ALL, Cases, cases_at, held_out_cases
from recsys.settings import EvaluationSettings
from recsys.snapshot.sequences import EVENT_DTYPES, Sequences
from recsys.snapshot.targets import find_targets
from recsys.training.split import Split, ValidationCases, split_validation

SPLITS = ("leave-one-out", "temporal", "cold-items")
TEMPORAL_SHARE = 0.1
COLD_SHARE = 0.1
_COLD_CASES_PER_USER = 10


@dataclass(frozen=True)
class Protocol:
    """One split of a data set.

    Attributes
    ----------
    known
        All events before the test, as a served model would have them.
    validation
        The same events, split into training events and cases that choose settings and epochs.
    cases
        The test cases.
    """

    known: Sequences
    validation: Split
    cases: Cases


def make_split(dataset: Dataset, split: str, seed: int = 0) -> Protocol:
    """Split a data set; see `SPLITS`.

    `leave-one-out`: each user's last event is the test and the one before it is validation. `temporal`: the
    latest tenth of the feedback is the test, and each event is predicted from all events before it; the
    latest part of the other feedback is validation. `cold-items`: a tenth of the items is held out with all
    events. Each of these events (at most ten per user) is predicted from the user's earlier events with
    other items.

    Raises
    ------
    ConfigurationError
        There is no such split, or the data set has no times to split by.
    """
    if split == "leave-one-out":
        return _leave_one_out(dataset)
    if split == "temporal":
        return _temporal(dataset, seed)
    if split == "cold-items":
        return _cold_items(dataset, seed)
    raise ConfigurationError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")


def _leave_one_out(dataset: Dataset) -> Protocol:
    sequences = dataset.sequences
    chosen = np.flatnonzero(sequences.lengths >= 3)
    last = sequences.offsets[1:][chosen] - 1
    known = sequences.where(~_mask(sequences, last))
    ends = known.offsets[1:][chosen] - 1
    validation = Split(known.where(~_mask(known, ends)), _validation_cases(known, ends))
    return Protocol(known, validation, cases_at(sequences, dataset.catalogue, last, known))


def _temporal(dataset: Dataset, seed: int) -> Protocol:
    if not dataset.has_times:
        raise ConfigurationError(f"{dataset.name} has no times, so it cannot be split by time")
    sequences = dataset.sequences
    boundary = np.quantile(sequences.occurred_at, 1 - TEMPORAL_SHARE, method="higher")
    held_out_from = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(boundary))
    known = sequences.before(held_out_from).without_empty_users()
    cases = held_out_cases(sequences, dataset.catalogue, held_out_from, EvaluationSettings())
    return Protocol(known, split_validation(known, seed=seed), cases)


def _cold_items(dataset: Dataset, seed: int) -> Protocol:
    sequences, n_items = dataset.sequences, len(dataset.catalogue)
    rng = np.random.default_rng(seed)
    met = np.flatnonzero(np.bincount(sequences.item_index, minlength=n_items))
    cold = np.zeros(n_items, dtype=bool)
    cold[rng.choice(met, round(COLD_SHARE * len(met)), replace=False)] = True
    # The history of a cold item's event is the known events before it.
    is_cold = cold[sequences.item_index]
    owners = sequences.event_users()
    known = sequences.where(~is_cold)
    before = np.concatenate([[0], np.cumsum(~is_cold)])
    positions = np.flatnonzero(is_cold & (sequences.weight > 0))
    positions = positions[before[positions] > known.offsets[owners[positions]]]
    keep = _at_most(owners[positions], _COLD_CASES_PER_USER, rng)
    positions = positions[keep]
    # One "user" per case: the known events before it, then the event itself.
    histories = _prefixes_with_target(known, before[positions], owners[positions], sequences, positions)
    _, first, owner = np.unique(owners[positions], return_index=True, return_inverse=True)
    cases = Cases(
        sequences=histories,
        positions=histories.offsets[1:] - 1,
        users=first[owner],  # groups a user's cases, under the number of the first one
        targets=sequences.item_index[positions],
        catalogue=dataset.catalogue,
        slices={ALL: np.ones(len(positions), dtype=bool)},
    )
    return Protocol(known, split_validation(known, seed=seed), cases)


def _prefixes_with_target(
    known: Sequences,
    ends: NDArray[np.int64],
    owners: NDArray[np.int64],
    sequences: Sequences,
    positions: NDArray[np.int64],
) -> Sequences:
    """Return one "user" per case: the events `offsets[owner]:end` of `known`, then the target."""
    starts = known.offsets[owners]
    lengths = ends - starts + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    source = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)
    is_target = np.zeros(offsets[-1], dtype=bool)
    is_target[offsets[1:] - 1] = True
    source[is_target] = 0
    columns = {}
    for name in EVENT_DTYPES:
        if name == "comment":
            continue
        column = getattr(known, name)[source].copy()
        column[is_target] = getattr(sequences, name)[positions]
        columns[name] = column
    return Sequences(user_keys=sequences.user_keys[owners], offsets=offsets, **columns)


def _validation_cases(known: Sequences, positions: NDArray[np.int64]) -> ValidationCases:
    return ValidationCases.of(known, positions[find_targets(known).chosen[positions]])


def _mask(sequences: Sequences, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(sequences.events, dtype=bool)
    mask[positions] = True
    return mask


def _at_most(owners: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the sorted positions of at most `count` entries per owner, drawn at random."""
    order = rng.permutation(len(owners))
    shuffled = owners[order]
    by_owner = np.argsort(shuffled, kind="stable")
    sorted_owners = shuffled[by_owner]
    rank = np.arange(len(owners)) - np.searchsorted(sorted_owners, sorted_owners)
    return np.sort(order[by_owner[rank < count]])
