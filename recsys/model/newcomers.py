"""Items of which little is known yet, and the well-known items that stand in for them.

Collaborative filtering and popularity say nothing of an item without events, and its id part is empty, so
it would lose against every popular item however well its text fits. Until it has events of its own it
is therefore ranked as the well-known item most like it would be: most like it by what the text encoder's
projection, which was trained on what users do, makes of the two texts.
"""

import torch
from torch import Tensor

LEAST_EVENTS = 5
"""With fewer events an item is a newcomer."""
_MOST_KNOWN = 50_000
_BLOCK = 1_024


def find_stand_ins(text_parts: Tensor, counts: Tensor) -> Tensor:
    """Return [items] the position of each item's stand-in: itself, unless it is a newcomer.

    Parameters
    ----------
    text_parts
        [items, dim] what the items' texts alone give, as `ItemEncoder.from_text` does.
    counts
        [items] events of each item. Of very many well-known items the 50,000 with most events may stand in.
    """
    stand_ins = torch.arange(len(counts), device=counts.device)
    newcomers = (counts < LEAST_EVENTS).nonzero()[:, 0]
    known = (counts >= LEAST_EVENTS).nonzero()[:, 0]
    if not len(newcomers) or not len(known):
        return stand_ins
    if len(known) > _MOST_KNOWN:
        known = known[counts[known].topk(_MOST_KNOWN).indices]
    centred = torch.nn.functional.normalize(text_parts.float() - text_parts.float().mean(0), dim=1)
    candidates = centred[known]
    for start in range(0, len(newcomers), _BLOCK):
        block = newcomers[start : start + _BLOCK]
        stand_ins[block] = known[(centred[block] @ candidates.T).argmax(1)]
    return stand_ins
