"""Compare batch scoring with the bare matrix product and top-k, and measure the cost of reasons.

    python -m benchmarks.scoring --users 200000 --items 50000 --k 100 --json F

Both sides use the same random user vectors and the same threads. The floor is `torch.topk(users @ items.T,
k)` in blocks of the fastest size on this machine. Ours is `BatchScorer`, which publishing uses: the fused
score (neural, liking, popularity) without consumed and unavailable items, ties in catalogue order, scores
checked. The two alternate batch by batch, so that other load affects both. Peak memory is that of a process
that only scores, for the given users and for four times as many.

On fewer users, the benchmark also measures how long it takes to encode histories, which the floor does not
do, and compares scoring with reasons and with diversity to scoring without, including the encoding.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.made_warehouse import report
from recsys.model.base_encoder import EncoderIdentity
from recsys.model.collaborative import Popularity
from recsys.model.recommender import Recommender
from recsys.publishing.histories import UserBatch
from recsys.publishing.publish import BATCH_USERS
from recsys.publishing.score import BatchScorer, ExplainFactory, ServingScorer
from recsys.publishing.servable import explain_in_sentences
from recsys.settings import ModelSettings, PublishingSettings
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Sequences as Histories

TEXT_WIDTH = 384
UNAVAILABLE = 0.02
GENRES = 30
_FLOOR_BLOCKS = (64, 128, 256, 512, 1024)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring")
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--k", type=int, default=100, help="length of the lists")
    parser.add_argument("--events", type=int, default=50, help="events of a user")
    parser.add_argument("--encoded-users", type=int, default=4_096, help="users when encoding is measured")
    parser.add_argument("--memory-users", type=int, help="users for the peak memory; default: --users")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    memory_users = options.memory_users or options.users
    sizes = (options.items, options.k, options.events)
    figures: dict[str, Any] = {
        "users": options.users,
        "items": options.items,
        "k": options.k,
        "threads": torch.get_num_threads(),
        **_againstfloor_seconds(options.users, *sizes),
        "peak_rss_mib": _alone(memory_users, *sizes),
        "peak_rss_mib_at_4_times_the_users": _alone(4 * memory_users, *sizes),
        "memory_users": memory_users,
        **_with_encoding(options.encoded_users, *sizes),
    }
    report(figures, options.json)


class GivenVectors:
    """A recommender and its scorer, with random user vectors instead of encoded histories."""

    def __init__(self, model: Recommender) -> None:
        self.settings, self.event_types, self.catalogue = model.settings, model.event_types, model.catalogue
        self.of_model = model.scorer()
        self.item_vectors = self.of_model.item_vectors
        self.score = self.of_model.score
        self.with_catalogue, self.serving_bytes = model.with_catalogue, model.serving_bytes
        self.vectors = torch.zeros(0)

    def scorer(self) -> ServingScorer:
        """Return itself."""
        return self

    def user_vectors(self, histories: Histories) -> Tensor:
        """Return the vectors [users, dim] drawn for this batch."""
        assert len(self.vectors) == histories.users
        return self.vectors


def made_model(items: int) -> Recommender:
    """Return a recommender with random weights on a synthetic catalogue; it needs no text encoder."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    catalogue = Catalogue.build(
        [f"item-{n}" for n in range(items)],
        [f"Title {n}" for n in range(items)],
        None,
        [{"genre": f"genre {n}"} for n in rng.integers(0, GENRES, items)],
        rng.random(items) >= UNAVAILABLE,
    )
    types = EventTypes.from_records([{"event_type": "like", "explicit": True, "polarity": 1, "weight": 1.0}])
    settings = ModelSettings(base_encoder="made")
    encoder = EncoderIdentity("made", "", TEXT_WIDTH)
    model = Recommender(settings, catalogue, types, encoder, torch.randn(items, TEXT_WIDTH)).eval()
    model.items.trained[:] = True
    model.popularity = Popularity((1e5 / (1 + rng.permutation(items))).astype(np.float32))
    return model


def made_batches(model: Recommender, users: int, events: int) -> Iterator[tuple[UserBatch, Tensor]]:
    """Yield synthetic batches in the form the warehouse gives, and the vectors of their users."""
    rng = np.random.default_rng(1)
    step = BATCH_USERS
    for first in range(0, users, step):
        count = min(step, users - first)
        owner = np.repeat(np.arange(count), events)
        items = rng.integers(0, len(model.catalogue), len(owner)).astype(np.int32)
        histories = Histories.build(
            user_keys=[""] * count,
            user_index=owner,
            item_index=items,
            event_type=np.zeros(len(owner)),
            value=np.full(len(owner), np.nan),
            occurred_at=np.arange(len(owner)) * 1_000_000,
            feedback_id=np.arange(len(owner)),
            event_types=model.event_types,
        )
        yield UserBatch(first, histories, owner, items), torch.randn(count, model.settings.dim)


def _againstfloor_seconds(users: int, items: int, k: int, events: int) -> dict[str, Any]:
    given = GivenVectors(model := made_model(items))
    ours = BatchScorer(given, PublishingSettings(k=k), None)
    table = torch.from_numpy(given.item_vectors)
    _, warm = next(made_batches(model, 1024, events))
    block = floor_block(warm, table, k)
    seconds = floor = 0.0
    for batch, vectors in made_batches(model, users, events):
        floor += floor_seconds(vectors, table, k, block)
        given.vectors = vectors
        started = time.perf_counter()
        ours.score(batch)
        seconds += time.perf_counter() - started
    return {
        "users_per_second": users / seconds,
        "floor_users_per_second": users / floor,
        "ratio": seconds / floor,
        "floor_block_users": block,
    }


def floor_block(users: Tensor, table: Tensor, k: int) -> int:
    """Return the number of users in a block with which the floor is fastest on this machine."""
    return min(_FLOOR_BLOCKS, key=lambda size: min(floor_seconds(users, table, k, size) for _ in range(7)))


@torch.no_grad()
def floor_seconds(users: Tensor, table: Tensor, k: int, block: int) -> float:
    """Return the seconds of the bare product and top-k of users [users, dim] and a table [items, dim]."""
    started = time.perf_counter()
    for part in users.split(block):
        torch.topk(part @ table.T, k)
    return time.perf_counter() - started


def _alone(*sizes: int) -> float:
    """Return the peak memory of a process that scores, in MiB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak, *sizes).result()


def _peak(users: int, items: int, k: int, events: int) -> float:
    given = GivenVectors(model := made_model(items))
    ours = BatchScorer(given, PublishingSettings(k=k), None)
    for batch, vectors in made_batches(model, users, events):
        given.vectors = vectors
        ours.score(batch)
    return peak_rss_mib()


def peak_rss_mib() -> float:
    """Return the peak memory of this process, in MiB."""
    # Not ru_maxrss, which in a child process starts at the parent's value.
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def _with_encoding(users: int, items: int, k: int, events: int) -> dict[str, float]:
    model = made_model(items)
    plain = _seconds(model, users, events, PublishingSettings(k=k), None)
    reasons = _seconds(model, users, events, PublishingSettings(k=k), explain_in_sentences)
    varied = _seconds(model, users, events, PublishingSettings(k=k, diversity=0.3), None)
    scorer = model.scorer()
    started = time.perf_counter()
    for batch, _ in made_batches(model, users, events):
        scorer.user_vectors(batch.histories)
    return {
        "encoded_users_per_second": users / (time.perf_counter() - started),
        "published_users_per_second": users / plain,
        "reasons_ratio": reasons / plain,
        "diversity_ratio": varied / plain,
    }


def _seconds(
    model: Recommender, users: int, events: int, settings: PublishingSettings, explain: ExplainFactory | None
) -> float:
    """Return the seconds that scoring takes, from histories to rows for the warehouse."""
    ours = BatchScorer(model, settings, explain)
    batches = [batch for batch, _ in made_batches(model, users, events)]
    ours.score(batches[0])
    started = time.perf_counter()
    for batch in batches:
        list(ours.score(batch).lists())
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
