"""Cases, in which models rank items, and what a protocol makes of a data set."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.ranking.cases import COLD_USERS, KNOWN_ITEMS, NEW_ITEMS, RARE_ITEMS, Cases
from recsys.model.ranking import mask_hidden, mask_unavailable
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.snapshot.visits import are_returning
from recsys.training.split import Split, ValidationCases, VisitCases

MAX_TUNING_CASES = 5_000


@dataclass(frozen=True, eq=False)
class TargetCases:
    """Moments of users, with the items that they want next.

    Attributes
    ----------
    sequences
        Whole sequences; the histories are prefixes of them.
    ends
        `[cases]` positions in the events of `sequences` at which the histories end.
    users
        `[cases]` index of the user in `sequences`.
    at
        `[cases]` the moment of the case, in microseconds since 1970.
    offsets, targets
        `[cases + 1]` and `[targets]`: the items wanted in each case, without doubles.
    types
        `[targets, types]` whether an event of this type wants the item.
    had
        `[targets]` whether the user had wanted the item before.
    catalogue
        What is ranked: of each case, the items that were available at its moment.
    slices
        By name: `[targets]` whether the target belongs to the slice.
    shown
        Items among which each case ranks, `[cases + 1]` offsets and `[shown]` items; None: all.
    """

    sequences: Sequences
    ends: NDArray[np.int64]
    users: NDArray[np.int64]
    at: NDArray[np.int64]
    offsets: NDArray[np.int64]
    targets: NDArray[np.int64]
    types: NDArray[np.bool_]
    had: NDArray[np.bool_]
    catalogue: Catalogue
    slices: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    shown: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def of(cls, cases: Cases, types: int) -> "TargetCases":
        """Take over cases of the product."""
        wanted = np.zeros((len(cases), types), dtype=bool)
        wanted[np.arange(len(cases)), cases.sequences.event_type[cases.positions]] = True
        return cls(
            sequences=cases.sequences, ends=cases.positions, users=cases.users,
            at=cases.sequences.occurred_at[cases.positions],
            offsets=np.arange(len(cases) + 1), targets=cases.targets.astype(np.int64), types=wanted,
            had=np.zeros(len(cases), dtype=bool), catalogue=cases.catalogue, slices=cases.slices,
        )  # fmt: skip

    @property
    def available(self) -> NDArray[np.bool_]:
        """`[items]` whether the item may be recommended at some time."""
        return self.catalogue.available

    @cached_property
    def case_of_target(self) -> NDArray[np.int64]:
        """`[targets]` the case that wants it."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def histories(self, rows: NDArray[np.int64]) -> Sequences:
        """Return the histories of some cases, as sequences of one user each."""
        return self.sequences.prefixes(self.ends[rows])

    def mask(self, scores: NDArray[np.float32], rows: NDArray[np.int64], histories: Sequences) -> None:
        """Set scores [rows, items] of items that may not be recommended to minus infinity, in place."""
        mask_unavailable(scores, self.catalogue, self.at[rows])
        if self.shown is None:
            mask_hidden(scores, histories)
        else:
            offsets, items = self.shown
            for place, row in enumerate(rows):
                among = items[offsets[row] : offsets[row + 1]]
                kept = scores[place, among]
                scores[place] = -np.inf
                scores[place, among] = kept

    def latest_of_users(self) -> NDArray[np.bool_]:
        """Return `[cases]` whether the case is the latest of its user; coverage is measured on these."""
        latest = np.full(self.sequences.users, -1, dtype=np.int64)
        np.maximum.at(latest, self.users, self.ends)
        return np.asarray(latest[self.users] == self.ends)

    def take(self, rows: NDArray[np.int64]) -> "TargetCases":
        """Return some of the cases."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        chosen = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        shown = self.shown
        if shown is not None:
            sizes = np.diff(shown[0])[rows]
            begins = np.concatenate([[0], np.cumsum(sizes)])
            places = np.arange(begins[-1]) + np.repeat(shown[0][rows] - begins[:-1], sizes)
            shown = begins, shown[1][places]
        return replace(
            self, ends=self.ends[rows], users=self.users[rows], at=self.at[rows],
            shown=shown, offsets=offsets,
            targets=self.targets[chosen], types=self.types[chosen], had=self.had[chosen],
            slices={name: members[chosen] for name, members in self.slices.items()},
        )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One protocol on one data set.

    Attributes
    ----------
    known
        All events before the test, as a served model would have them.
    train
        The events among them from before the tuning cases.
    tuning, test
        Cases that choose settings, and those that are reported.
    wanted
        `[types]` whether events of this type are targets.
    is_aligned
        Whether all users' clocks are the same, so that what others did before a case is known in it.
    log
        All feedback, for models that read it up to the moment of each case; None: they may not.
    split
        Training events and validation cases of our model; None: it makes its own.
    lists
        `[lists]` whether a shown list is before the tuning cases, and whether it is before the test.
    notes
        How the events were understood, for people.
    """

    known: Sequences
    train: Sequences
    tuning: TargetCases
    test: TargetCases
    wanted: NDArray[np.bool_]
    is_aligned: bool
    log: Sequences | None = None
    split: Split | None = None
    lists: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
    notes: list[str] = field(default_factory=list)


def before(sequences: Sequences, *parts: TargetCases) -> Sequences:
    """Return the events of before each case; users have one case in a part at most."""
    limit = sequences.offsets[1:].copy()
    for cases in parts:
        limit[cases.users] = np.minimum(cases.ends, limit[cases.users])
    return sequences.where(np.arange(sequences.events) < limit[sequences.event_users()])


def slices_of(cases: TargetCases, known: Sequences) -> dict[str, NDArray[np.bool_]]:
    """Return the slices `[targets]` by what was known of the user and of the item."""
    seen = np.bincount(known.item_index, minlength=len(cases.available))[cases.targets]
    return {
        COLD_USERS: (known.lengths == 0)[cases.users[cases.case_of_target]],
        NEW_ITEMS: seen == 0,
        RARE_ITEMS: (seen >= 1) & (seen < 5),
        KNOWN_ITEMS: seen >= 5,
    }


def split_for_training(train: Sequences, tuning: TargetCases) -> Split:
    """Return training events and cases, as the product's training takes them: single targets, and visits."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(tuning.targets))[:MAX_TUNING_CASES])
    histories = tuning.histories(tuning.case_of_target[chosen])
    visits = VisitCases(tuning.histories(np.arange(len(tuning))), tuning.targets, tuning.case_of_target)
    returning = visits.take(np.flatnonzero(are_returning(visits.histories)))
    return Split(train, ValidationCases(histories, tuning.targets[chosen]), returning)
