"""What an expert of each domain would try first, tuned on the same validation cases as our model.

Each rival is fitted on a log of feedback and scores users' histories; all may recommend what a user had.
`GRID` holds the settings that validation chooses from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from benchmarks.cases import TargetCases, Task
from recsys.model.co_occurrences import interaction_matrix
from recsys.snapshot.sequences import Sequences
from recsys.snapshot.visits import visits

DAY = 86_400_000_000
"""A day in microseconds."""
Settings = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Log:
    """Feedback to fit a rival on.

    Attributes
    ----------
    events
        The feedback.
    n_items
        Size of the catalogue.
    wanted
        `[types]` whether events of this type are targets.
    is_aligned
        Whether users' clocks are the same: a case then sees only what happened before it.
    fitted_until
        Time until which anything may be counted for all cases alike; None: the whole log.
    """

    events: Sequences
    n_items: int
    wanted: NDArray[np.bool_]
    is_aligned: bool
    fitted_until: int | None = None

    @cached_property
    def popular(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Times and items of all wanted events, in time order."""
        kept = np.flatnonzero(self.are_wanted(self.events))
        order = kept[np.argsort(self.events.occurred_at[kept], kind="stable")]
        return self.events.occurred_at[order], self.events.item_index[order].astype(np.int64)

    @cached_property
    def visit(self) -> NDArray[np.int64]:
        """`[events]` number of the visit."""
        return visits(self.events)

    def are_wanted(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Return `[events]` whether an event is wanted and not negative."""
        return np.asarray(self.wanted[sequences.event_type] & (sequences.weight > 0))

    def now(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how far the log may be read for cases at these times."""
        end = int(self.events.occurred_at.max(initial=0)) + 1
        return np.minimum(at, end) if self.is_aligned else np.full_like(at, end)


class Rival(Protocol):
    """A simple recommender.

    Attributes
    ----------
    GRID
        Settings to choose from.
    FOLLOWS
        Whether it reads the log only up to the moment of each case, so that it may be given all feedback.
    """

    GRID: ClassVar[Sequence[Settings]]
    FOLLOWS: ClassVar[bool]

    @classmethod
    def fit(cls, log: Log, settings: Settings) -> Self:
        """Fit on a log."""
        ...

    def score(self, histories: Sequences, at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return scores [cases, items] for histories that end at these times."""
        ...


def grid(**choices: Sequence[Any]) -> list[dict[str, Any]]:
    """Return all combinations of settings."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def tune(
    rival: type[Rival], task: Task, n_items: int, judge: Callable[[Rival, TargetCases], float]
) -> tuple[Rival, dict[str, Any]]:
    """Fit a rival with the settings of its grid that are best on the tuning cases."""
    follows = rival.FOLLOWS and task.log is not None

    def log(fitted: Sequences, readable: Sequences | None) -> Log:
        if not follows or readable is None:
            return Log(fitted, n_items, task.wanted, task.is_aligned)
        until = int(fitted.occurred_at.max(initial=0)) + 1
        return Log(readable, n_items, task.wanted, task.is_aligned, until)

    train, known = log(task.train, task.known), log(task.known, task.log)
    quality = [judge(rival.fit(train, settings), task.tuning) for settings in rival.GRID]
    best = rival.GRID[int(np.argmax(quality))]
    return rival.fit(known, best), {"settings": dict(best), "validation_ndcg": float(max(quality))}


@dataclass(frozen=True, eq=False)
class RecentPopularity:
    """Number of wanted events in the last days before the case; all days break ties."""

    log: Log
    days: float
    FOLLOWS: ClassVar = True
    GRID: ClassVar = grid(days=(0.05, 0.25, 1, 3, 7, 14, 30, 90, np.inf))

    @classmethod
    def fit(cls, log: Log, settings: Settings) -> Self:
        """Note the window."""
        return cls(log, settings["days"])

    def score(self, _histories: Sequences, at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [cases, items]."""
        times, items = self.log.popular
        result = np.empty((len(at), self.log.n_items), dtype=np.float32)
        moments, inverse = np.unique(self.log.now(at), return_inverse=True)
        ends = np.searchsorted(times, moments)
        windows = moments - self.days * DAY
        begins = np.searchsorted(times, windows)
        for place, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            counts = np.bincount(items[begin:end], minlength=self.log.n_items)
            if begin:
                counts = counts + np.bincount(items[:begin], minlength=self.log.n_items) / (begin + 1)
            result[inverse == place] = counts
        return result


@dataclass(frozen=True, eq=False)
class PersonalFrequency:
    """P-Pop: how often the user had the item, where older events count less."""

    log: Log
    half_life: float
    unit: str
    everything: bool
    share: float = 0.0
    days: float = np.inf
    FOLLOWS: ClassVar = True
    GRID: ClassVar = [
        *grid(half_life=(np.inf, 3, 10, 30, 90, 365), unit=("days",), everything=(False, True)),
        *grid(half_life=(1, 2, 5, 10, 20), unit=("visits",), everything=(False, True)),
    ]

    @classmethod
    def fit(cls, log: Log, settings: Settings) -> Self:
        """Note the settings."""
        return cls(log, **settings)

    def score(self, histories: Sequences, at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [cases, items]."""
        rows = histories.event_users()
        if self.unit == "days":
            age = (at[rows] - histories.occurred_at) / DAY
        else:
            visit = visits(histories)
            ends = np.maximum(histories.offsets[1:] - 1, 0)
            age = (visit[np.minimum(ends, len(visit) - 1)][rows] if len(visit) else visit) - visit
        weight = np.exp2(-np.maximum(age, 0) / self.half_life)
        if not self.everything:
            weight = weight * self.log.are_wanted(histories)
        own = scipy.sparse.csr_matrix(
            (weight.astype(np.float32), (rows, histories.item_index)), shape=(len(at), self.log.n_items)
        ).toarray()
        if self.share:
            popular = RecentPopularity(self.log, self.days).score(histories, at)
            own += self.share * popular / np.maximum(popular.max(axis=1, keepdims=True), 1)
        return np.asarray(own, dtype=np.float32)


class GlobalAndPersonalFrequency(PersonalFrequency):
    """GP-Pop: the same, and after it what is popular."""

    GRID: ClassVar = [
        settings | more
        for settings in (
            *grid(half_life=(np.inf, 3, 30, 90), unit=("days",), everything=(False, True)),
            *grid(half_life=(2, 5, 10, 20), unit=("visits",), everything=(False, True)),
        )
        for more in grid(share=(1e-4, 0.1, 1.0), days=(1, 30, np.inf))
    ]


@dataclass(frozen=True, eq=False)
class TifuKnn:
    """TIFU-kNN (Hu et al., 2020): decayed baskets of a user, mixed with those of the nearest users.

    A basket is a visit. Baskets are cut into groups of `group`; they decay by `within` in a group and by
    `across` from group to group. `own` is the weight of the user's own vector.
    """

    log: Log
    vectors: scipy.sparse.csr_matrix
    settings: Settings
    FOLLOWS: ClassVar = False
    GRID: ClassVar = [
        *grid(group=(3, 7), within=(0.9,), across=(0.7,), neighbours=(100, 300, 900), own=(0.2, 0.7, 0.9)),
        *grid(group=(7,), within=(1.0,), across=(0.6, 0.9), neighbours=(300,), own=(0.7, 0.9)),
    ]

    @classmethod
    def fit(cls, log: Log, settings: Settings) -> Self:
        """Compute the vectors of all users."""
        return cls(log, cls._vectors(log, log.events, settings), settings)

    @staticmethod
    def _vectors(log: Log, histories: Sequences, settings: Settings) -> scipy.sparse.csr_matrix:
        kept = histories.where(log.are_wanted(histories))
        rows, visit, size = kept.event_users(), visits(kept), settings["group"]
        if not len(rows):
            return scipy.sparse.csr_matrix((histories.users, log.n_items), dtype=np.float32)
        last = visit[np.maximum(kept.offsets[1:] - 1, 0)][rows]
        first = visit[np.minimum(kept.offsets[:-1], len(visit) - 1)][rows]
        age, count = last - visit, last - first + 1
        groups = -(-count // size)
        # Groups are counted from the latest basket, so only the oldest one may be smaller.
        weight = settings["within"] ** (age % size) * settings["across"] ** (age // size)
        in_group = np.minimum(size, count - age // size * size)
        items = kept.item_index.astype(np.int64)
        _, once = np.unique(visit * log.n_items + items, return_index=True)
        data = (weight / in_group / groups)[once].astype(np.float32)
        return scipy.sparse.csr_matrix(
            (data, (rows[once], items[once])), shape=(histories.users, log.n_items)
        )

    def score(self, histories: Sequences, _at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [cases, items]."""
        own = self._vectors(self.log, histories, self.settings)
        squares = np.asarray(self.vectors.multiply(self.vectors).sum(axis=1)).ravel()
        nearness = (
            2 * np.asarray((own @ self.vectors.T).todense()) - squares
        )  # minus the distance, to a constant
        place = {key: row for row, key in enumerate(self.log.events.user_keys)}
        for row, key in enumerate(histories.user_keys):
            if key in place:
                nearness[row, place[key]] = -np.inf
        count = min(self.settings["neighbours"], nearness.shape[1] - 1)
        if count < 1:
            return np.asarray(own.toarray(), dtype=np.float32)
        near = np.argpartition(-nearness, count - 1, axis=1)[:, :count]
        among = scipy.sparse.csr_matrix(
            (
                np.full(near.size, 1 / count, dtype=np.float32),
                (np.repeat(np.arange(len(near)), count), near.ravel()),
            ),
            shape=nearness.shape,
        )
        share = self.settings["own"]
        return np.asarray((share * own + (1 - share) * (among @ self.vectors)).toarray(), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class SessionKnn:
    """V-SkNN (Ludewig and Jannach, 2018): items of the visits that are most like the user's latest events.

    Later events of the user weigh more, linearly, and so do visits whose latest common item is late in the
    user's history. Of the visits with a common item the most recent `sample` are compared.
    """

    log: Log
    visits: scipy.sparse.csr_matrix
    ended: NDArray[np.int64]
    rarity: NDArray[np.float32]
    settings: Settings
    FOLLOWS: ClassVar = True
    GRID: ClassVar = [
        *grid(by=("visit",), latest=(5, 20), neighbours=(50, 200), sample=(1000,), idf=(False, True)),
        *grid(by=("user",), latest=(5, 20), neighbours=(50, 200), sample=(5000,), idf=(False, True)),
    ]

    @classmethod
    def fit(cls, log: Log, settings: Settings) -> Self:
        """Collect the visits, or the whole histories of users."""
        events = log.events
        row = log.visit if settings["by"] == "visit" else events.event_users()
        rows, n_items = int(row.max(initial=-1)) + 1, log.n_items
        matrix = scipy.sparse.csr_matrix(
            (np.ones(len(row), dtype=np.float32), (row, events.item_index)), shape=(max(rows, 1), n_items)
        )
        matrix.data[:] = 1
        ended = np.zeros(max(rows, 1), dtype=np.int64)
        np.maximum.at(ended, row, events.occurred_at)
        settled = matrix if log.fitted_until is None else matrix[ended < log.fitted_until]
        count = np.asarray(settled.sum(axis=0)).ravel()
        rarity = np.log(max(settled.shape[0], 2) / np.maximum(count, 1)) if settings["idf"] else count * 0 + 1
        return cls(log, matrix, ended, rarity.astype(np.float32), settings)

    def score(self, histories: Sequences, at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [cases, items]."""
        latest = histories.last(self.settings["latest"])
        lengths = latest.lengths[latest.event_users()]
        place = np.arange(latest.events) - latest.offsets[:-1][latest.event_users()] + 1
        weight = (place / np.maximum(lengths, 1)).astype(np.float32)
        result = np.zeros((len(at), self.log.n_items), dtype=np.float32)
        by_item = self.visits.tocsc()
        until = self.log.now(at)
        for row in range(len(at)):
            begin, end = latest.offsets[row : row + 2]
            if begin == end:
                continue
            # One weight for each item, that of its latest event.
            items, where = np.unique(latest.item_index[begin:end][::-1], return_index=True)
            own = weight[begin:end][::-1][where]
            found = by_item[:, items]
            similarity = np.asarray(found @ own).ravel()
            candidates = np.flatnonzero((similarity > 0) & (self.ended < until[row]))
            if len(candidates) > self.settings["sample"]:
                order = np.argpartition(-self.ended[candidates], self.settings["sample"])
                candidates = candidates[order[: self.settings["sample"]]]
            if len(candidates) > self.settings["neighbours"]:
                order = np.argpartition(-similarity[candidates], self.settings["neighbours"])
                candidates = candidates[order[: self.settings["neighbours"]]]
            if not len(candidates):
                continue
            common = found[candidates].multiply(own).max(axis=1).toarray().ravel()
            near = self.visits[candidates]
            result[row] = np.asarray((similarity[candidates] * common) @ near).ravel() * self.rarity
        return result


@dataclass(frozen=True, eq=False)
class ItemKnn:
    """Item-kNN: cosine between items over users, with shrinkage."""

    weights: scipy.sparse.csr_matrix
    FOLLOWS: ClassVar = False
    GRID: ClassVar = grid(neighbours=(20, 50, 200, 1000), shrinkage=(0.0, 20.0))

    @classmethod
    def fit(cls, log: Log, settings: Settings) -> Self:
        """Compute the similarities and keep those of the nearest neighbours of each item."""
        matrix = interaction_matrix(log.events, log.n_items, negative=1.0)
        together = (matrix.T @ matrix).tocoo()
        norm = np.sqrt(np.bincount(matrix.indices, minlength=log.n_items))
        of, other = together.col, together.row
        cosine = together.data / (norm[of] * norm[other] + settings["shrinkage"] + 1e-9) * (of != other)
        order = np.lexsort((-cosine, of))
        place = np.arange(len(order)) - np.searchsorted(of[order], of[order])
        kept = order[place < settings["neighbours"]]
        values = cosine[kept].astype(np.float32)
        return cls(scipy.sparse.csr_matrix((values, (other[kept], of[kept])), shape=together.shape))

    def score(self, histories: Sequences, _at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [cases, items]."""
        had = interaction_matrix(histories, self.weights.shape[0], negative=1.0)
        return np.asarray((had @ self.weights).toarray(), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Ease:
    """EASE (Steck, 2019)."""

    weights: NDArray[np.float32]
    FOLLOWS: ClassVar = False
    GRID: ClassVar = grid(penalty=(10.0, 30.0, 100.0, 300.0, 1000.0))

    @classmethod
    def fit(cls, log: Log, settings: Settings) -> Self:
        """Invert the regularised Gram matrix by its Cholesky factor, in place."""
        matrix = interaction_matrix(log.events, log.n_items, negative=1.0)
        gram = np.asfortranarray((matrix.T @ matrix).toarray(), dtype=np.float32)
        gram[np.diag_indices_from(gram)] += settings["penalty"]
        factor, failed = scipy.linalg.lapack.spotrf(gram, lower=1, overwrite_a=1)
        if not failed:
            factor, failed = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
        if failed:
            raise FloatingPointError("the Gram matrix of EASE is not positive definite")
        inverse = np.tril(factor)
        inverse += np.tril(factor, -1).T
        inverse /= -np.diag(inverse).copy()
        np.fill_diagonal(inverse, 0.0)
        return cls(np.ascontiguousarray(inverse))

    def score(self, histories: Sequences, _at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [cases, items]."""
        return np.asarray(interaction_matrix(histories, len(self.weights), negative=1.0) @ self.weights)


RIVALS: dict[str, type[Rival]] = {
    "recent_popularity": RecentPopularity,
    "p_pop": PersonalFrequency,
    "gp_pop": GlobalAndPersonalFrequency,
    "tifu_knn": TifuKnn,
    "v_sknn": SessionKnn,
    "item_knn": ItemKnn,
    "ease": Ease,
}
