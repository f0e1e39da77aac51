"""What a full fine-tune trains and validates on, of few users or of more than fit into memory."""

import logging
import shutil
from collections import abc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.model.recommender import Recommender
from recsys.snapshot.holdout import HoldoutBoundary
from recsys.snapshot.read import Snapshot
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.shards import Shards, divide
from recsys.training.batching import (
    LATE_SHARE,
    MAX_VALIDATION_USERS,
    NO_TARGETS,
    Split,
    ValidationCases,
    are_targets,
    split_at,
    split_validation,
)
from recsys.training.parallel import barrier, is_first

_SHARDS_IN_MEMORY = 3
"""One is trained on, one is read ahead, and users' histories differ in length."""

_log = logging.getLogger(__name__)


@contextmanager
def known_events(snapshot: Snapshot, events_in_memory: int, folder: Path) -> Iterator[Sequence[Sequences]]:
    """Yield the events before the held-out ones, all in one part when they fit into memory.

    Else they are divided by users into parts on disk, which are deleted at the end.

    Parameters
    ----------
    events_in_memory
        Events to be loaded at a time, about.
    folder
        For the parts; on a local disk.
    """

    def known(sequences: Sequences) -> Sequences:
        return sequences.before(snapshot.held_out_from).without_empty_users()

    rows = snapshot.manifest.rows
    if rows <= events_in_memory:
        yield [known(snapshot.sequences())]
        return
    try:
        if is_first():
            count = -(-_SHARDS_IN_MEMORY * rows // events_in_memory)
            _log.info("%d events do not fit into memory: divided by users into %d files", rows, count)
            divide(snapshot, count, folder, known)
        barrier()
        yield Shards(folder)
        barrier()
    finally:
        if is_first():
            shutil.rmtree(folder, ignore_errors=True)


def read_comments(model: Recommender, parts: Sequence[Sequences]) -> Sequence[Sequences]:
    """Return the events with what comments say; the texts are not needed any more."""
    if isinstance(parts, Shards):
        if is_first():
            parts.rewrite(lambda part: model.read_comments(part).without_comments())
        barrier()
        return parts
    return [model.read_comments(part) for part in parts]


@dataclass(frozen=True)
class TrainingData:
    """Training events, some of the users at a time, and validation cases; no event is in both.

    Attributes
    ----------
    train
        Each part is in memory only while somebody holds it.
    cases
        Validation cases.
    counts
        [items] training events of each item.
    tells_likes_from_dislikes
        There are both, without which the liking head has nothing to tell apart.
    """

    train: Sequence[Sequences]
    cases: ValidationCases
    counts: NDArray[np.float32]
    tells_likes_from_dislikes: bool


def training_data(
    parts: Sequence[Sequences], n_items: int, *, seed: int = 0, split: Split | None = None
) -> TrainingData:
    """Hold back validation cases (see `split_validation`) and count what remains, part by part.

    Parameters
    ----------
    parts
        Users of one part are in no other.
    split
        Of the only part, when it is made already.

    Raises
    ------
    TrainingError
        When no event can be a target.
    """
    if len(parts) == 1:
        split = split or split_validation(parts[0], seed=seed)
        return _counted([split.train], [split], n_items)
    splits = _Splits(parts, _late_from(parts), seed)
    return _counted(splits, map(splits.of, range(len(parts))), n_items)


@dataclass(frozen=True)
class _Splits(abc.Sequence[Sequences]):
    """The training events of each part: those that validate are found again whenever it is loaded."""

    parts: Sequence[Sequences]
    late_from: int
    seed: int

    def of(self, number: int) -> Split:
        users = -(-MAX_VALIDATION_USERS // len(self.parts))
        return split_at(self.parts[number], self.late_from, max_users=users, seed=(self.seed, number))

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Sequences:  # type: ignore[override] # no slices
        return self.of(number).train


def _late_from(parts: Sequence[Sequences]) -> int:
    """Return the time from which on events may validate; memory does not grow with their number."""
    boundary = HoldoutBoundary()
    for part in parts:
        boundary.observe(part.occurred_at)
    found = boundary.find(LATE_SHARE, lambda _: (part.occurred_at for part in parts))
    return found if found is not None else boundary.earliest or 0


def _counted(train: Sequence[Sequences], splits: Iterable[Split], n_items: int) -> TrainingData:
    counts = np.zeros(n_items, dtype=np.int64)
    cases: list[ValidationCases] = []
    likes = dislikes = targets = False
    for split in splits:
        cases.append(split.cases)
        counts += np.bincount(split.train.item_index, minlength=n_items)
        likes |= bool((split.train.sentiment > 0).any())
        dislikes |= bool((split.train.sentiment < 0).any())
        targets |= bool(are_targets(split.train).any())
    if not targets:
        raise TrainingError(NO_TARGETS)
    joined = ValidationCases(
        Sequences.concat([own.histories for own in cases]), np.concatenate([own.targets for own in cases])
    )
    return TrainingData(train, joined, counts.astype(np.float32), likes and dislikes)
