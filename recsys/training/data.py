"""Events of a snapshot, in memory or divided into files by users; training and validation data from them."""

import logging
import shutil
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.model.recommender import Recommender
from recsys.snapshot.holdout import late_from
from recsys.snapshot.read import Snapshot
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.shards import Shards, divide
from recsys.snapshot.targets import find_targets
from recsys.training.parallel import barrier, is_first
from recsys.training.split import (
    LATE_SHARE,
    MAX_VALIDATION_USERS,
    NO_TARGETS,
    Split,
    ValidationCases,
    VisitCases,
    split_at,
    split_validation,
)

_SHARDS_IN_MEMORY = 3
"""One is trained on and one is prefetched. The third leaves room for files of different sizes."""

_log = logging.getLogger(__name__)


@contextmanager
def known_events(snapshot: Snapshot, events_in_memory: int, folder: Path) -> Iterator[Sequence[Sequences]]:
    """Yield the events before the held-out ones, in parts as `events_in_parts` does."""

    def known(sequences: Sequences) -> Sequences:
        return sequences.before(snapshot.held_out_from).without_empty_users()

    with events_in_parts(snapshot, events_in_memory, folder, known) as parts:
        yield parts


@contextmanager
def events_in_parts(
    snapshot: Snapshot,
    events_in_memory: int,
    folder: Path,
    keep: Callable[[Sequences], Sequences] = lambda events: events,
) -> Iterator[Sequence[Sequences]]:
    """Yield the events of a snapshot, in one part if they fit in memory.

    Otherwise they are divided by users into files, which are deleted at the end.

    Parameters
    ----------
    events_in_memory
        Approximate number of events to load at a time.
    folder
        Folder for the files, on a local disk.
    keep
        Returns the events of a part to keep.
    """
    rows = snapshot.manifest.rows
    if rows <= events_in_memory:
        yield [keep(snapshot.sequences())]
        return
    try:
        if is_first():
            count = -(-_SHARDS_IN_MEMORY * rows // events_in_memory)
            _log.info(
                "%d events are more than RECSYS_TRAINING__EVENTS_IN_MEMORY: divided by users into %d files",
                rows,
                count,
            )
            divide(snapshot, count, folder, keep)
        barrier()
        yield Shards(folder)
        barrier()
    finally:
        if is_first():
            shutil.rmtree(folder, ignore_errors=True)


def read_comments(model: Recommender, parts: Sequence[Sequences]) -> Sequence[Sequences]:
    """Fill in the opinions that comments express; files of events lose the comments' texts."""
    if isinstance(parts, Shards):
        if is_first():
            parts.rewrite(lambda part: model.read_comments(part).without_comments())
        barrier()
        return parts
    return [model.read_comments(part) for part in parts]


@dataclass(frozen=True)
class TrainingData:
    """Training events and validation cases; no event is in both.

    Attributes
    ----------
    train
        Training events in parts, each with some of the users. A part is loaded when it is accessed.
    cases
        Validation cases.
    returning
        Those of users who come back.
    everything
        All events, which validation counts as far as they are before a case, in the same parts as the
        training events; the training events themselves if validation cases are from all times.
    counts, all_counts
        [items] training events and all events of each item.
    has_likes_and_dislikes
        Whether both exist. Otherwise the liking head has nothing to learn.
    has_dislikes
        Whether there are dislikes.
    """

    train: Sequence[Sequences]
    cases: ValidationCases
    returning: VisitCases
    everything: Sequence[Sequences]
    counts: NDArray[np.float32]
    all_counts: NDArray[np.float32]
    has_likes_and_dislikes: bool
    has_dislikes: bool

    @property
    def known_items(self) -> NDArray[np.bool_]:
        """[items] whether there is any event with the item: what validation ranks."""
        return self.all_counts > 0


def training_data(
    parts: Sequence[Sequences],
    n_items: int,
    *,
    seed: int = 0,
    split: Split | None = None,
    unseen_share: float = 0.0,
) -> TrainingData:
    """Hold back validation cases (see `split_validation`) and count the other events, part by part.

    Parameters
    ----------
    parts
        Each user is in one part only.
    split
        The split of the only part, if the caller has made one.
    unseen_share
        Share of the users who are not validated on, see `are_unseen`.

    Raises
    ------
    TrainingError
        No event can be a target.
    """
    if len(parts) == 1:
        split = split or split_validation(parts[0], seed=seed, unseen_share=unseen_share)
        train = [split.train]
        everything = train if split.everything is None else [split.everything]
        return _counted(train, everything, [split], n_items)
    splits = _Splits(parts, late_from(parts, LATE_SHARE) or 0, seed, unseen_share)
    return _counted(splits, parts, map(splits.of, range(len(parts))), n_items)


@dataclass(frozen=True)
class _Splits(abc.Sequence[Sequences]):
    """The training events of each part; validation cases are split off whenever a part is loaded."""

    parts: Sequence[Sequences]
    late_from: int
    seed: int
    unseen_share: float

    def of(self, number: int) -> Split:
        users = -(-MAX_VALIDATION_USERS // len(self.parts))
        return split_at(
            self.parts[number],
            self.late_from,
            max_users=users,
            seed=(self.seed, number),
            unseen_share=self.unseen_share,
        )

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Sequences:  # type: ignore[override] # no slices
        return self.of(number).train


def _counted(
    train: Sequence[Sequences], everything: Sequence[Sequences], splits: Iterable[Split], n_items: int
) -> TrainingData:
    counts = np.zeros(n_items, dtype=np.int64)
    all_counts = np.zeros(n_items, dtype=np.int64)
    cases: list[ValidationCases] = []
    returning: list[VisitCases] = []
    likes = dislikes = targets = False
    for split in splits:
        cases.append(split.cases)
        returning.append(split.returning or VisitCases.among(split.cases))
        counts += np.bincount(split.train.item_index, minlength=n_items)
        whole = split.train if split.everything is None else split.everything
        all_counts += np.bincount(whole.item_index, minlength=n_items)
        likes |= bool((split.train.sentiment > 0).any())
        dislikes |= bool((split.train.sentiment < 0).any())
        targets |= bool(find_targets(split.train).chosen.any())
        del split, whole  # frees the part before another one is loaded
    if not targets:
        raise TrainingError(NO_TARGETS)
    return TrainingData(
        train=train,
        cases=ValidationCases.concat(cases),
        returning=VisitCases.concat(returning),
        everything=everything,
        counts=counts.astype(np.float32),
        all_counts=all_counts.astype(np.float32),
        has_likes_and_dislikes=likes and dislikes,
        has_dislikes=dislikes,
    )
