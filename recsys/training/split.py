"""Split events into training data and validation cases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.targets import find_targets, hidden_items
from recsys.snapshot.visits import are_returning, starts_of_visits, visits

LATE_SHARE = 0.1
"""Latest share of the events from which validation cases are taken, as evaluation takes its own."""
MAX_VALIDATION_USERS = 1_000
_UNSEEN_DIGITS = 8, 16
NO_TARGETS = (
    "no event can be a training target: all feedback is negative or of weight 0. Wait for more "
    "feedback, or give its event types a weight above 0"
)


@dataclass(frozen=True)
class ValidationCases:
    """Held-back targets, each predicted from all earlier events of its user.

    Attributes
    ----------
    histories
        One history for each case.
    targets
        [cases] the item that was consumed next.
    """

    histories: Sequences
    targets: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequences, positions: NDArray[np.int64]) -> "ValidationCases":
        """Make a case of each event at `positions`."""
        return cls(sequences.prefixes(positions), sequences.item_index[positions].astype(np.int64))

    @classmethod
    def concat(cls, parts: Sequence["ValidationCases"]) -> "ValidationCases":
        """Return the cases of all parts in turn."""
        histories = Sequences.concat([part.histories for part in parts])
        return cls(histories, np.concatenate([part.targets for part in parts]))

    def take(self, rows: NDArray[np.int64]) -> "ValidationCases":
        """Return some of the cases."""
        return ValidationCases(self.histories.take_users(rows), self.targets[rows])

    def __len__(self) -> int:
        return len(self.targets)

    def excluded(
        self, n_items: int, allowed: NDArray[np.bool_] | None = None, catalogue: Catalogue | None = None
    ) -> NDArray[np.bool_]:
        """Return [cases, items]: the item could not be recommended; never true for a target.

        It was off the list, it is not allowed, or the catalogue says that it was not available at the time.
        """
        mask = not_recommendable(self.histories, n_items, allowed, catalogue)
        mask[np.arange(len(self)), self.targets] = False
        return mask


@dataclass(frozen=True)
class VisitCases:
    """Users who come back, each with everything that the visit brings.

    Attributes
    ----------
    histories
        One history for each visit: all earlier events of its user.
    targets
        [targets] items of the targets of the visits, each once a visit.
    visit
        [targets] the visit, a row of `histories`.
    """

    histories: Sequences
    targets: NDArray[np.int64]
    visit: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Sequences, positions: NDArray[np.int64], most: int) -> "VisitCases":
        """Make a case of each visit with some of the events at `positions`; the latest `most` of each user.

        Users without an earlier event do not come back.
        """
        begins, owners = starts_of_visits(sequences), sequences.event_users()
        visit = visits(sequences)[positions]
        later = begins[visit] > sequences.offsets[owners[positions]]
        # Each item once a visit; keys are in the order of visits.
        keys = np.unique(np.stack([visit[later], sequences.item_index[positions[later]]]), axis=1)
        different, row = np.unique(keys[0], return_inverse=True)
        users = owners[begins[different]]
        from_end = np.searchsorted(users, users, side="right") - 1 - np.arange(len(users))
        cases = cls(sequences.prefixes(begins[different]), keys[1].astype(np.int64), row)
        return cases.take(np.flatnonzero(from_end < most))

    @classmethod
    def among(cls, cases: ValidationCases) -> "VisitCases":
        """Take the cases whose user comes back; each has one target."""
        rows = np.flatnonzero(are_returning(cases.histories))
        return cls(cases.histories.take_users(rows), cases.targets[rows], np.arange(len(rows)))

    @classmethod
    def concat(cls, parts: Sequence["VisitCases"]) -> "VisitCases":
        """Return the cases of all parts in turn."""
        histories = Sequences.concat([part.histories for part in parts])
        first = np.cumsum([0, *(len(part) for part in parts[:-1])])
        visit = [part.visit + start for part, start in zip(parts, first, strict=True)]
        return cls(histories, np.concatenate([part.targets for part in parts]), np.concatenate(visit))

    def take(self, rows: NDArray[np.int64]) -> "VisitCases":
        """Return some of the visits, in increasing order of `rows`."""
        place = np.full(len(self), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = place[self.visit] >= 0
        return VisitCases(self.histories.take_users(rows), self.targets[kept], place[self.visit[kept]])

    def __len__(self) -> int:
        return self.histories.users

    def excluded(self, n_items: int, allowed: NDArray[np.bool_], catalogue: Catalogue) -> NDArray[np.bool_]:
        """Return [visits, items]: the item could not be recommended; never true for a target."""
        mask = not_recommendable(self.histories, n_items, allowed, catalogue)
        mask[self.visit, self.targets] = False
        return mask


def not_recommendable(
    histories: Sequences, n_items: int, allowed: NDArray[np.bool_] | None, catalogue: Catalogue | None
) -> NDArray[np.bool_]:
    """Return [histories, items] whether the item is not allowed, off the list or not available then."""
    mask = np.zeros((histories.users, n_items), dtype=bool)
    if catalogue is not None and len(catalogue.timed):
        mask[:, catalogue.timed] = ~catalogue.within_its_time(catalogue.timed, histories.moments[:, None])
    if allowed is not None:
        mask[:, ~allowed] = True
    mask[hidden_items(histories)] = True
    return mask


@dataclass(frozen=True)
class Split:
    """Training events and validation cases; no event is in both.

    Attributes
    ----------
    returning
        Cases of users who come back. Default: those among the cases.
    everything
        If all cases are later than all training events: all events. Validation counts those before the
        moment of a case, and they are learned in the end. None: the cases are taken from all times.
    """

    train: Sequences
    cases: ValidationCases
    returning: VisitCases | None = None
    everything: Sequences | None = None

    def with_events_read(self, read: Callable[[Sequences], Sequences]) -> "Split":
        """Return the split after applying `read` to all events."""
        returning = self.returning
        if returning is not None:
            returning = replace(returning, histories=read(returning.histories))
        cases = replace(self.cases, histories=read(self.cases.histories))
        everything = None if self.everything is None else read(self.everything)
        return Split(read(self.train), cases, returning, everything)


def are_unseen(user_keys: NDArray[np.object_], share: float) -> NDArray[np.bool_]:
    """Return [users] whether a search of settings keeps the user for the test of its winner.

    The digits of the keyed hash that choose guard users are others, so guard users are among both.
    """
    first, end = _UNSEEN_DIGITS
    bound = round(share * 16 ** (end - first))
    return np.fromiter((int(key[first:end], 16) < bound for key in user_keys), bool, len(user_keys))


def split_validation(
    sequences: Sequences,
    *,
    share: float = LATE_SHARE,
    max_users: int = MAX_VALIDATION_USERS,
    max_cases_per_user: int = 20,
    seed: int = 0,
    unseen_share: float = 0.0,
) -> Split:
    """Hold back the latest `share` of the events, and take validation cases from them.

    This is how feedback is held out for evaluation. Nothing of this period is trained on: a model that has
    seen what others did in the same days knows their new items and fashions, and nobody knows those of the
    days to come.

    Parameters
    ----------
    share
        Latest share of the events.
    max_users
        Users with cases; of more, a sample.
    max_cases_per_user
        Cases of one user, the first ones, and as many visits of users who come back, the latest ones.
    unseen_share
        Share of the users without cases, see `are_unseen`.

    Raises
    ------
    TrainingError
        No event can be a target.
    """
    if not find_targets(sequences).chosen.any():
        raise TrainingError(NO_TARGETS)
    late_from = int(np.quantile(sequences.occurred_at, 1 - share, method="higher"))
    return split_at(
        sequences,
        late_from,
        max_users=max_users,
        max_cases_per_user=max_cases_per_user,
        seed=seed,
        unseen_share=unseen_share,
    )


def split_at(
    sequences: Sequences,
    late_from: int,
    *,
    max_users: int = MAX_VALIDATION_USERS,
    max_cases_per_user: int = 20,
    seed: int | tuple[int, ...] = 0,
    unseen_share: float = 0.0,
) -> Split:
    """Do the same as `split_validation` for events from `late_from` (microseconds since 1970) on."""
    usable = find_targets(sequences).chosen
    late = sequences.occurred_at >= late_from
    if not (usable & ~late).any():  # all targets are late, for example if there is only one event
        late[:] = False
    owner = sequences.event_users()
    active = np.unique(owner[late & usable])
    if unseen_share:
        active = active[~are_unseen(sequences.user_keys[active], unseen_share)]
    chosen = np.zeros(sequences.users, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(active)[:max_users]] = True
    candidates = np.flatnonzero(late & usable & chosen[owner])
    users = owner[candidates]
    rank = np.arange(len(users)) - np.searchsorted(users, users)
    return Split(
        sequences.where(~late),
        ValidationCases.of(sequences, candidates[rank < max_cases_per_user]),
        VisitCases.of(sequences, candidates, max_cases_per_user),
        sequences if late.any() else None,
    )
