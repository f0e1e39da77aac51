"""Proxies for cold items: each item with few events is ranked like a similar item with many.

Collaborative filtering and popularity know nothing about an item without events, and its id vector is
empty. Without a proxy it would lose against every popular item, however well its text fits. The proxy of a
cold item is the most similar warm item. Similarity is measured on the projected texts, because the
projection was trained on what users do.
"""

import torch
from torch import Tensor

MIN_EVENTS = 5
"""An item with fewer events is cold."""
_MAX_CANDIDATES = 50_000
_BLOCK_ITEMS = 256


def find_proxies(text_parts: Tensor, counts: Tensor, wanted: Tensor | None = None) -> Tensor:
    """Return the position [items] of each item's proxy; a warm item is its own proxy.

    The time grows with the number of cold items times that of candidates.

    Parameters
    ----------
    text_parts
        [items, dim] vectors from the items' texts alone (`ItemEncoder.from_text`).
    counts
        [items] events of each item. The 50,000 warm items with the most events are candidates.
    wanted
        [items] items whose proxies are looked for; all others get themselves. Default: all.
    """
    proxies = torch.arange(len(counts), device=counts.device)
    is_cold = counts < MIN_EVENTS
    cold = (is_cold if wanted is None else is_cold & wanted).nonzero()[:, 0]
    warm = (counts >= MIN_EVENTS).nonzero()[:, 0]
    if not len(cold) or not len(warm):
        return proxies
    if len(warm) > _MAX_CANDIDATES:
        warm = warm[counts[warm].topk(_MAX_CANDIDATES).indices]
    centred = torch.nn.functional.normalize(text_parts.float() - text_parts.float().mean(0), dim=1)
    candidates = centred[warm]
    for start in range(0, len(cold), _BLOCK_ITEMS):
        block = cold[start : start + _BLOCK_ITEMS]
        proxies[block] = warm[(centred[block] @ candidates.T).argmax(1)]
    return proxies
