"""Batches of users' events as padded tensors, the input of the user encoder."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.device import to_device
from recsys.snapshot.sequences import Sequences

GAP_BUCKETS = 32
"""Buckets of the time since a user's previous event, in powers of two of seconds. Bucket 0 is the first event
or one in the same second."""


@dataclass(frozen=True)
class EventBatch:
    """Events [users, length], padded on the right.

    Attributes
    ----------
    item, event_type, sentiment, gap, weight
        [users, length] columns of the events; `gap` is a bucket of `time_gaps`.
    value
        [users, length] scaled to 0..1; NaN for an event without a value.
    lengths
        [users] number of real events.
    """

    item: Tensor
    event_type: Tensor
    sentiment: Tensor
    value: Tensor
    gap: Tensor
    weight: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """Whether a position [users, length] holds a real event."""
        return torch.arange(self.item.shape[1], device=self.item.device)[None, :] < self.lengths[:, None]

    def to(self, device: torch.device) -> "EventBatch":
        """Copy the batch to a device."""
        return EventBatch(**{f.name: to_device(getattr(self, f.name), device) for f in fields(self)})

    def inputs(self) -> "EventBatch":
        """Return the batch without its last column: in training the last event is only a target."""
        columns = {f.name: getattr(self, f.name)[:, :-1] for f in fields(self) if f.name != "lengths"}
        return EventBatch(**columns, lengths=(self.lengths - 1).clamp(min=0))


def time_gaps(sequences: Sequences) -> NDArray[np.int64]:
    """Return the bucket [events] of the time since the user's previous event; see `GAP_BUCKETS`."""
    gap = np.zeros(sequences.events, dtype=np.int64)
    if sequences.events > 1:
        seconds = np.maximum(np.diff(sequences.occurred_at), 0) / 1e6
        gap[1:] = np.minimum(np.log2(seconds + 1).astype(np.int64) + (seconds >= 1), GAP_BUCKETS - 1)
    gap[sequences.offsets[:-1][sequences.lengths > 0]] = 0
    return gap


def collate(
    sequences: Sequences, gaps: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> EventBatch:
    """Build a padded batch of the event ranges `starts[i]:ends[i]`.

    Parameters
    ----------
    sequences, gaps
        All events, and their `time_gaps`.
    starts, ends
        [users] positions in the event arrays.
    """
    lengths = ends - starts
    width = int(lengths.max(initial=0))
    columns = np.arange(width)
    real = columns[None, :] < lengths[:, None]
    if sequences.events == 0:
        empty = torch.zeros(len(starts), 0, dtype=torch.long)
        return EventBatch(empty, empty, empty, empty.float(), empty, empty.float(), torch.from_numpy(lengths))
    positions = np.minimum(starts[:, None] + columns[None, :], sequences.events - 1)

    def pad(values: NDArray[np.generic], padding: float = 0) -> Tensor:
        return torch.from_numpy(np.where(real, values[positions], padding))

    return EventBatch(
        item=pad(sequences.item_index).long(),
        event_type=pad(sequences.event_type).long(),
        sentiment=pad(sequences.sentiment).long(),
        value=pad(sequences.value, np.nan).float(),
        gap=pad(gaps).long(),
        weight=pad(sequences.weight).float(),
        lengths=torch.from_numpy(lengths),
    )


def batches_of_events(lengths: NDArray[np.int64], places: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of users [batch] whose events fit into a padded batch of so many places.

    Users of a batch have about as many events, so that little of it is padding. A user with more events than
    there are places is a batch.

    Parameters
    ----------
    lengths
        [users] number of events.
    places
        Events and padding of a batch; each user has one more place for the start.
    """
    order = np.argsort(-lengths, kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + max(1, places // (int(lengths[order[begin]]) + 1))
        yield order[begin:end]
        begin = end
