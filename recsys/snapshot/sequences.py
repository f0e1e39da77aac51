"""Users' events in time order as flat NumPy arrays (CSR layout), for training and scoring."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from recsys.errors import SnapshotError
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.returns import find_returned

__all__ = ["Catalogue", "Sequences", "microseconds", "parts_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENT_DTYPES: dict[str, Any] = {
    "item_index": np.int32,
    "event_type": np.int16,
    "sentiment": np.int8,
    "value": np.float32,
    "occurred_at": np.int64,
    "weight": np.float32,
    "purpose": np.int8,
    "comment": np.int32,
    "outcome": np.bool_,
    "hide_days": np.float32,
    "in_time": np.bool_,
}
FOR_EVER = np.iinfo(np.int64).max
"""Value of `Sequences.hidden_until` for an item that stays off its user's lists."""
_MICROSECONDS_PER_DAY = 86_400e6
_NO_COMMENTS = pa.array([], pa.large_string())


def microseconds(time: datetime | int) -> int:
    """Return exact microseconds since 1970 UTC, the unit of `Sequences.occurred_at`."""
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise SnapshotError(f"cannot compare a time without zone with feedback: {time}")
        return (time - _EPOCH) // timedelta(microseconds=1)
    return int(time)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Events grouped by user, in time order, ties in log order.

    User `u` has the events `offsets[u]:offsets[u + 1]`, possibly none. Methods return new objects that may
    share arrays with the old one, so treat all arrays as read-only.

    Attributes
    ----------
    user_keys
        `[users]` keyed hashes, dtype object.
    offsets
        `[users + 1]`
    item_index
        `[events]` position in the catalogue.
    event_type
        `[events]` index into the event types.
    sentiment
        `[events]` -1, 0 or 1.
    value
        `[events]` scaled to 0..1 within the type's range; NaN for none.
    occurred_at
        `[events]` microseconds since 1970 UTC.
    weight
        `[events]` weight as a next-item target; 0: never a target.
    purpose
        `[events]` index into `recsys.columns.PURPOSES`.
    outcome
        `[events]` whether the event's type is an outcome.
    hide_days
        `[events]` for how many days the event keeps its item off its user's lists; infinity: for ever.
    in_time
        `[events]` whether the event is between `available_from` and `available_until` of its item.
    comment
        `[events]` position in `comments`; -1 for none.
    comments
        Distinct comments as Arrow strings, shared by all parts of these events.
    asked_at
        `[users]` time at which something is recommended to the user, in microseconds since 1970. None: right
        after the latest event.
    """

    user_keys: NDArray[np.object_]
    offsets: NDArray[np.int64]
    item_index: NDArray[np.int32]
    event_type: NDArray[np.int16]
    sentiment: NDArray[np.int8]
    value: NDArray[np.float32]
    occurred_at: NDArray[np.int64]
    weight: NDArray[np.float32]
    purpose: NDArray[np.int8]
    outcome: NDArray[np.bool_]
    hide_days: NDArray[np.float32]
    in_time: NDArray[np.bool_]
    comment: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    # What users wrote must not reach logs.
    comments: pa.Array = field(default_factory=lambda: _NO_COMMENTS, repr=False)
    asked_at: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if len(self.comment) == 0:
            object.__setattr__(self, "comment", np.broadcast_to(np.int32(-1), (int(self.offsets[-1]),)))
        if len(self.offsets) != len(self.user_keys) + 1 or self.offsets[0] != 0:
            raise SnapshotError(f"{len(self.user_keys)} users need {len(self.user_keys) + 1} offsets from 0")
        for name in EVENT_DTYPES:
            if len(getattr(self, name)) != self.offsets[-1]:
                raise SnapshotError(f"{name} has {len(getattr(self, name))} events, not {self.offsets[-1]}")

    @classmethod
    def build(
        cls,
        *,
        user_keys: Sequence[str] | NDArray[np.object_],
        user_index: ArrayLike,
        item_index: ArrayLike,
        event_type: ArrayLike,
        value: ArrayLike,
        occurred_at: ArrayLike,
        feedback_id: ArrayLike,
        event_types: EventTypes,
        rest_days: NDArray[np.float32] | None = None,
        in_time: ArrayLike = True,
        row_weight: ArrayLike = 1.0,
        purpose: ArrayLike = 0,
        comment: pa.Array | pa.ChunkedArray | Sequence[str | None] | None = None,
    ) -> "Sequences":
        """Sort unordered events by user, time and log order.

        Parameters
        ----------
        user_keys
            `[users]` in the order of the result; includes users without events.
        user_index
            `[events]` position in `user_keys`.
        item_index
            `[events]` position in the catalogue. Events with -1 (not in the catalogue) are dropped.
        event_type
            `[events]` index into `event_types`. Events with -1 (unknown) are dropped.
        value
            `[events]` as the application sent it; NaN for none.
        occurred_at
            `[events]` microseconds since 1970 UTC.
        feedback_id
            `[events]` log order, which orders events with equal times.
        rest_days
            `[items]` days after an outcome until the item may be recommended to its user again; NaN where the
            event type decides. Default: it decides for all.
        in_time, row_weight, purpose
            `[events]`, or one value for all.
        comment
            `[events]` scrubbed comment; null or blank for none.
        """
        keys = np.empty(len(user_keys), dtype=object)
        keys[:] = list(user_keys)
        user = np.asarray(user_index, dtype=np.int64)
        item = np.asarray(item_index, dtype=np.int32)
        kind = np.asarray(event_type, dtype=np.int16)
        time = np.asarray(occurred_at, dtype=np.int64)
        order = np.lexsort((np.asarray(feedback_id, dtype=np.int64), time, user))
        known = (item[order] >= 0) & (kind[order] >= 0)
        if not known.all():
            order = order[known]
        kind = kind[order]
        values = np.asarray(value, dtype=np.float64)[order]
        weights = np.broadcast_to(np.asarray(row_weight, dtype=np.float32), user.shape)[order]
        sentiment = event_types.sentiment(kind, values)
        offsets = _offsets(np.bincount(user[order], minlength=len(keys)))
        weight = event_types.target_weight(kind, sentiment, values, weights)
        weight[find_returned(user[order], item[order], kind, event_types.are_returns(kind, values))] = 0
        comments, written = distinct_comments(comment, len(user))
        return cls(
            user_keys=keys,
            offsets=offsets,
            item_index=item[order],
            event_type=kind,
            sentiment=sentiment,
            value=event_types.scale(kind, values),
            occurred_at=time[order],
            weight=weight,
            purpose=np.broadcast_to(np.asarray(purpose, dtype=np.int8), user.shape)[order],
            outcome=event_types.is_outcome[kind],
            hide_days=event_types.hides_for(
                kind, sentiment, np.nan if rest_days is None else rest_days[item[order]]
            ),
            in_time=np.broadcast_to(np.asarray(in_time, dtype=np.bool_), user.shape)[order],
            comment=written[order],
            comments=comments,
        )

    @classmethod
    def empty(cls, user_keys: Sequence[str] | NDArray[np.object_] = ()) -> "Sequences":
        """Return users without any events."""
        keys = np.empty(len(user_keys), dtype=object)
        keys[:] = list(user_keys)
        events = {name: np.zeros(0, dtype=dtype) for name, dtype in EVENT_DTYPES.items()}
        return cls(user_keys=keys, offsets=np.zeros(len(keys) + 1, dtype=np.int64), **events)

    @classmethod
    def concat(cls, parts: Sequence["Sequences"]) -> "Sequences":
        """Return the users of all parts in turn. A user in two parts becomes two users."""
        if not parts:
            return cls.empty()
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in EVENT_DTYPES}
        any_asked = any(part.asked_at is not None for part in parts)
        shift = np.cumsum([0, *(len(part.comments) for part in parts[:-1])])
        moved = columns["comment"] + np.repeat(shift, [part.events for part in parts])
        columns["comment"] = np.where(columns["comment"] < 0, -1, moved).astype(np.int32)
        return cls(
            user_keys=np.concatenate([part.user_keys for part in parts]),
            offsets=_offsets(np.concatenate([part.lengths for part in parts])),
            comments=pa.concat_arrays([part.comments for part in parts]),
            asked_at=np.concatenate([part.moments for part in parts]) if any_asked else None,
            **columns,
        )

    def __len__(self) -> int:
        return len(self.user_keys)

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.user_keys)

    @property
    def events(self) -> int:
        """Number of events."""
        return int(self.offsets[-1])

    @property
    def hidden_until(self) -> NDArray[np.int64]:
        """`[events]` time through which the event keeps its item off its user's lists, or `FOR_EVER`."""
        return hidden_until(self.occurred_at, self.hide_days)

    @property
    def moments(self) -> NDArray[np.int64]:
        """`[users]` time at which something is recommended; 0 for a user without events or `asked_at`."""
        if self.asked_at is not None:
            return self.asked_at
        latest = np.zeros(self.users, dtype=np.int64)
        latest[self.lengths > 0] = self.occurred_at[self.offsets[1:][self.lengths > 0] - 1]
        return latest

    def asked(self, at: datetime | ArrayLike) -> "Sequences":
        """Return the same events, asked at one time for all users or at times `[users]`."""
        moments = microseconds(at) if isinstance(at, datetime) else np.asarray(at, dtype=np.int64)
        return replace(self, asked_at=np.broadcast_to(moments, (self.users,)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """`[users]` number of events."""
        return np.diff(self.offsets)

    def event_users(self) -> NDArray[np.int64]:
        """Return `[events]` the position of each event's user."""
        return np.repeat(np.arange(self.users, dtype=np.int64), self.lengths)

    def where(self, keep: NDArray[np.bool_]) -> "Sequences":
        """Return the events where `keep` `[events]` is true. All users stay, possibly without events."""
        kept = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
        return self._gather(np.flatnonzero(keep), kept[self.offsets], self.user_keys, self.asked_at)

    def before(self, time: datetime | int) -> "Sequences":
        """Return the events before `time` (exclusive). All users stay."""
        return self.where(self.occurred_at < microseconds(time))

    def last(self, count: int) -> "Sequences":
        """Return the latest `count` events of each user, or fewer."""
        starts = np.maximum(self.offsets[:-1], self.offsets[1:] - count)
        return self._ranges(starts, self.offsets[1:], self.user_keys, self.asked_at)

    def take_users(self, users: ArrayLike) -> "Sequences":
        """Return the users at these positions, in this order; also takes a boolean mask `[users]`."""
        chosen = np.asarray(users)
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        asked_at = None if self.asked_at is None else self.asked_at[index]
        return self._ranges(
            self.offsets[:-1][index], self.offsets[1:][index], self.user_keys[index], asked_at
        )

    def without_empty_users(self) -> "Sequences":
        """Return the users that have events."""
        return self.take_users(self.lengths > 0)

    def prefixes(self, event_positions: ArrayLike, max_events: int | None = None) -> "Sequences":
        """Return the history before each of some events as a "user" of its own, for evaluation cases.

        Parameters
        ----------
        event_positions
            `[cases]` positions in the event arrays. A prefix excludes the event itself and includes events of
            the same time that are earlier in log order.
        max_events
            Keep only the latest events of each prefix.

        Returns
        -------
        Sequences
            `[cases]` users, asked at the time of the event. A key repeats if its user has several cases.
        """
        ends = np.asarray(event_positions, dtype=np.int64)
        owner = np.searchsorted(self.offsets, ends, side="right") - 1
        starts = self.offsets[owner]
        if max_events is not None:
            starts = np.maximum(starts, ends - max_events)
        return self._ranges(starts, ends, self.user_keys[owner], self.occurred_at[ends])

    def without_comments(self) -> "Sequences":
        """Return the same events without comments."""
        return replace(self, comment=np.zeros(0, dtype=np.int32), comments=_NO_COMMENTS)

    def _ranges(
        self,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        user_keys: NDArray[np.object_],
        asked_at: NDArray[np.int64] | None,
    ) -> "Sequences":
        offsets = _offsets(ends - starts)
        positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], ends - starts)
        return self._gather(positions, offsets, user_keys, asked_at)

    def _gather(
        self,
        positions: NDArray[np.int64],
        offsets: NDArray[np.int64],
        user_keys: NDArray[np.object_],
        asked_at: NDArray[np.int64] | None,
    ) -> "Sequences":
        events = {name: getattr(self, name)[positions] for name in EVENT_DTYPES}
        return Sequences(
            user_keys=user_keys, offsets=offsets, comments=self.comments, asked_at=asked_at, **events
        )


def hidden_until(occurred_at: NDArray[np.int64], hide_days: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return `[events]` the time through which an event keeps its item off lists, or `FOR_EVER`."""
    # No rest overflows after a century at most, whatever the clocks of applications say.
    rest = np.minimum(hide_days, 36_525).astype(np.float64) * _MICROSECONDS_PER_DAY
    return np.where(np.isinf(hide_days), FOR_EVER, occurred_at + rest.astype(np.int64))


def parts_of(events: Sequences | Sequence[Sequences]) -> Sequence[Sequences]:
    """Return a sequence of parts, also for events that are not divided: those are one part."""
    return [events] if isinstance(events, Sequences) else events


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def distinct_comments(
    comment: pa.Array | pa.ChunkedArray | Sequence[str | None] | None, events: int
) -> tuple[pa.Array, NDArray[np.int32]]:
    """Return the distinct texts that are not blank, and `[events]` positions among them; -1 for none."""
    if comment is None:
        return _NO_COMMENTS, np.full(events, -1, dtype=np.int32)
    texts = comment if isinstance(comment, pa.Array | pa.ChunkedArray) else pa.array(comment, pa.string())
    if texts.null_count == len(texts):
        return _NO_COMMENTS, np.full(events, -1, dtype=np.int32)
    texts = texts.cast(pa.large_string())
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)
    texts = pc.if_else(blank, None, texts)
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    encoded = texts.dictionary_encode()
    return encoded.dictionary, encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
