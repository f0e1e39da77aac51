"""Encode users' events: a causal transformer similar to SASRec (Kang and McAuley, 2018)."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.model.events import GAP_BUCKETS, EventBatch
from recsys.settings import ModelSettings
from recsys.snapshot.event_types import EventTypes

NEGATIVE_SIGN = -0.5
"""Initial factor of the item vector of a negative event."""
SIGN_SPEED = 10.0
"""The factors are stored divided by this number, so that they change faster in training: even a low rating
can show interest."""


class Block(nn.Module):
    """Transformer block: causal self-attention and a feed-forward part, normalised before each."""

    def __init__(self, dim: int, heads: int, dropout: float, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, feed_forward * dim)
        self.contract = nn.Linear(feed_forward * dim, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [users, length, dim] for [users, length, dim]; position t attends to positions up to t."""
        users, length, dim = hidden.shape
        split = 3, self.heads, dim // self.heads
        parts = self.query_key_value(self.attention_norm(hidden)).view(users, length, *split)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        # No dropout on the attention weights, so that a fused kernel never has to store them.
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = self.attention_out(mixed.transpose(1, 2).reshape(users, length, dim))
        hidden = hidden + functional.dropout(mixed, self.dropout, self.training)
        return self._feed_forward(hidden)

    def at(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Return what `forward` returns at one position [users] of each user: [users, dim]."""
        users, length, dim = hidden.shape
        own = hidden[torch.arange(users, device=hidden.device), positions]
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        query = functional.linear(self.attention_norm(own), weight[:dim], bias[:dim])
        key_value = functional.linear(self.attention_norm(hidden), weight[dim:], bias[dim:])
        key, value = key_value.view(users, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        # The fused kernel gives a single query other last digits with another number of threads.
        match = (query.view(users, self.heads, 1, -1) * key).sum(3) * key.shape[3] ** -0.5
        unseen = torch.arange(length, device=hidden.device) > positions[:, None]
        attention = match.masked_fill(unseen[:, None], -torch.inf).softmax(2)
        mixed = self.attention_out((attention[..., None] * value).sum(2).reshape(users, dim))
        return self._feed_forward(own + functional.dropout(mixed, self.dropout, self.training))

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        widened = functional.gelu(self.expand(self.feed_forward_norm(hidden)))
        return hidden + functional.dropout(self.contract(widened), self.dropout, self.training)


class UserEncoder(nn.Module):
    """Compute a user vector after each event.

    An event is its item's vector plus embeddings of its type, sentiment, value, time gap and position. The
    item's vector is multiplied by a learned factor for each sentiment. The factor of negative events starts
    below zero, so that a dislike points away from its item from the beginning. A learned start vector
    precedes the first event, so that a user without history has a vector. Padding is on the right, where
    causal attention cannot see it.
    """

    def __init__(self, settings: ModelSettings, n_event_types: int) -> None:
        super().__init__()
        dim = settings.dim
        self.max_events = settings.max_events
        self.dropout = settings.dropout
        self.start = nn.Parameter(torch.randn(dim) * 0.02)
        self.event_type = nn.Embedding(n_event_types, dim)
        self.sentiment = nn.Embedding(3, dim)
        self.sentiment_sign = nn.Parameter(torch.tensor([NEGATIVE_SIGN, 1.0, 1.0]) / SIGN_SPEED)
        self.value = nn.Linear(2, dim, bias=False)
        self.gap = nn.Embedding(GAP_BUCKETS, dim)
        self.position = nn.Embedding(settings.max_events + 1, dim)
        self.blocks = nn.ModuleList(
            Block(dim, settings.heads, settings.dropout, settings.feed_forward)
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    @torch.no_grad()
    def with_event_types(self, known: EventTypes, wanted: EventTypes) -> "UserEncoder":
        """Return a copy with vectors for other event types; see `Recommender.with_event_types`."""
        moved = copy.deepcopy(self)
        weight = self.event_type.weight
        rows = []
        for name, role in zip(wanted.names, wanted.role, strict=True):
            alike = [row for row, other in enumerate(known.role) if other == role]
            rows.append(weight[known.index[name]] if name in known.index else weight[alike or ...].mean(0))
        moved.event_type = nn.Embedding(len(rows), weight.shape[1], _weight=torch.stack(rows))
        return moved

    def forward(self, events: EventBatch, event_items: Tensor) -> Tensor:
        """Return user vectors [users, length + 1, dim]: before the first event and after each event.

        Parameters
        ----------
        events
            At most `max_events` events per user.
        event_items
            [users, length, dim] vectors of the events' items.
        """
        hidden = self._inputs(events, event_items)
        for block in self.blocks:
            hidden = block(hidden)
        result: Tensor = self.norm(hidden)
        return result

    def last(self, events: EventBatch, event_items: Tensor) -> Tensor:
        """Return the users' vectors after their last events, [users, dim]; parameters as of `forward`.

        The last block computes nothing else.
        """
        hidden = self._inputs(events, event_items)
        *blocks, last = self.blocks
        assert isinstance(last, Block)
        for block in blocks:
            hidden = block(hidden)
        result: Tensor = self.norm(last.at(hidden, events.lengths))
        return result

    def _inputs(self, events: EventBatch, event_items: Tensor) -> Tensor:
        """Return what the first block reads: [users, length + 1, dim]."""
        known = ~events.value.isnan()
        value = torch.stack([events.value.nan_to_num() - 0.5, torch.ones_like(events.value)], -1)
        hidden = (
            event_items * SIGN_SPEED * self.sentiment_sign[events.sentiment + 1].unsqueeze(-1)
            + self.event_type(events.event_type)
            + self.sentiment(events.sentiment + 1)
            + self.value(value * known.unsqueeze(-1))
            + self.gap(events.gap)
        )
        start = self.start.expand(hidden.shape[0], 1, -1)
        hidden = torch.cat([start, hidden], 1) + self.position.weight[: hidden.shape[1] + 1]
        return functional.dropout(hidden, self.dropout, self.training)
