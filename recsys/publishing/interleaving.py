"""Interleaving: one list that two versions pick in turn, so that each user compares both.

Source: team-draft interleaving, Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval
quality?", CIKM 2008. In each round a coin decides who picks first; each version then picks its best item that
is not in the list yet. So both are equally often in front, and what users answer more often tells which
version they prefer. How well that agrees with other measures: Chapelle, Joachims, Radlinski and Yue, TOIS
2012.

An item that both versions want to pick now comes without a coin and is nobody's. In a round with a coin the
two items differ, so the coin decides their order and nothing else: a list is known but for the order within
its rounds, and each place of a round has a propensity of 1/2.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.model.ranking import NO_ITEM
from recsys.publishing.diversity import POOL_FACTOR
from recsys.publishing.exploration import uniforms
from recsys.publishing.histories import UserBatch
from recsys.publishing.score import BatchScorer, ScoredBatch

CHAMPION, CHALLENGER, BOTH = 0, 1, -1


def score_interleaved(
    champion: BatchScorer,
    challenger: BatchScorer,
    batches: Iterable[tuple[UserBatch, UserBatch]],
) -> Iterator[ScoredBatch]:
    """Yield interleaved lists batch by batch. Nothing else is drawn by chance.

    Parameters
    ----------
    batches
        The same users as each version reads them. The seeds of the first toss the coins.
    """
    for own, other in batches:
        assert own.seeds is not None
        yield interleave(
            champion.score(replace(own, seeds=None)), challenger.score(replace(other, seeds=None)), own.seeds
        )


def interleave(champion: ScoredBatch, challenger: ScoredBatch, seeds: NDArray[np.int64]) -> ScoredBatch:
    """Return lists and pools that both versions have picked in turn.

    Scores of two models do not compare, so that of an item is 1 / its rank. Vectors are the champion's.

    Parameters
    ----------
    champion, challenger
        The same users and sizes, without chance: a list is the beginning of its pool.
    seeds
        [users] random seeds; the same seed and pools give the same list.
    """
    users, pool = champion.pool_items.shape
    k = champion.items.shape[1]
    items = np.full((users, pool), NO_ITEM, dtype=np.int32)
    picks = np.full((users, pool), BOTH, dtype=np.int8)
    coins = uniforms(seeds, pool) < 0.5
    reasons = []
    for user in range(users):
        pools = (champion.pool_items[user].tolist(), challenger.pool_items[user].tolist())
        mixed, picked_by = draft(*pools, coins[user].tolist())
        items[user, : len(mixed)], picks[user, : len(mixed)] = mixed, picked_by
        reasons.append(_reasons(user, champion, challenger, mixed[:k], picked_by[:k]))
    ranks = np.arange(1, pool + 1, dtype=np.float32)
    scores = np.where(items == NO_ITEM, -np.inf, 1 / ranks).astype(np.float32)
    return replace(
        champion,
        items=items[:, :k],
        scores=scores[:, :k],
        propensities=np.where(picks[:, :k] == BOTH, 1.0, 0.5).astype(np.float32),
        pool_items=items,
        pool_scores=scores,
        reasons=reasons,
        picked_by=picks[:, : POOL_FACTOR * k],
    )


def draft(champion: list[int], challenger: list[int], coins: list[bool]) -> tuple[list[int], list[int]]:
    """Return what two rankings pick in turn, and who picked it: `CHAMPION`, `CHALLENGER` or `BOTH`.

    Which items come, and at which places the coin decides their order, follows from the rankings alone.

    Parameters
    ----------
    champion, challenger
        [pool] items, best first; `NO_ITEM` comes last. The result is as long as the pool, or shorter if both
        rankings are used up.
    coins
        [pool] whether the challenger picks first, one for each round.
    """
    rankings = [[item for item in ranking if item != NO_ITEM] for ranking in (champion, challenger)]
    next_pick = [0, 0]
    mixed: list[int] = []
    picked_by: list[int] = []
    taken: set[int] = set()
    tosses = iter(coins)
    while len(mixed) < len(champion):
        best: list[int] = []
        for team, ranking in enumerate(rankings):
            while next_pick[team] < len(ranking) and ranking[next_pick[team]] in taken:
                next_pick[team] += 1
            best += ranking[next_pick[team] : next_pick[team] + 1]
        if not best:
            break
        if len(best) == 1 or best[0] == best[1]:
            picks, teams = best[:1], [BOTH]
        else:
            first = next(tosses)
            picks, teams = [best[first], best[not first]], [int(first), int(not first)]
        mixed += picks
        picked_by += teams
        taken.update(picks)
    return mixed[: len(champion)], picked_by[: len(champion)]


def _reasons(
    user: int, champion: ScoredBatch, challenger: ScoredBatch, items: list[int], picked_by: list[int]
) -> list[str]:
    """Return the sentence of whichever version picked each item; an empty list if there are none."""
    given = [dict(zip(b.items[user].tolist(), b.reasons[user], strict=False)) for b in (champion, challenger)]
    found = [given[team == CHALLENGER].get(item, "") for item, team in zip(items, picked_by, strict=True)]
    return found if any(found) else []
