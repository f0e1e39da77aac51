"""Evaluate what items learn from requests in words that other users made before they chose them.

    python -m benchmarks.answered_requests --data ml-latest-small-folder --json F

Reads `movies.csv` and `tags.csv` of MovieLens latest-small. A user's free-text tag of a film is taken for a
request that the film answered. The users are divided into four parts. Films learn from the requests of three
of them, and those of the fourth are ranked over all films, by the match with the request alone.
`unseen_pairs` are requests that no user of the other parts made for the same film, and `unseen_requests`
those that none of them made at all. Films have titles and genres, and no tags.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.datasets import load_dataset
from benchmarks.requests import TagUse, read_tags
from recsys.evaluation.bootstrap import paired_bootstrap
from recsys.evaluation.ranking.metrics import ranks, user_means
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings
from recsys.snapshot.slates import Slates
from recsys.training.answered_requests import add_answered_requests

PARTS = 4
_K = 10
_BATCH = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    figures = measure(options.data, options.seed)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Learn from the requests of three quarters of the users at a time and rank those of the others."""
    with TemporaryDirectory() as home:
        dataset = load_dataset("ml-latest-small", folder, Path(home))
    catalogue = dataset.catalogue
    uses = [use for use in read_tags(folder / "tags.csv") if use[1] in catalogue.index]
    model = Recommender.build(ModelSettings(fine_tuning="frozen"), catalogue, dataset.event_types)
    untaught = model.request_vectors
    names, users = np.unique([user for user, _, _, _ in uses], return_inverse=True)
    part = np.random.default_rng(seed).permutation(len(names))[users] % PARTS
    without = _ndcg(model, uses)
    learned = np.zeros(len(uses))
    unseen_pairs, unseen_requests = np.zeros((2, len(uses)), dtype=bool)
    learned_from: list[bool] = []
    for number in range(PARTS):
        others = [use for use, own in zip(uses, part, strict=True) if own != number]
        model.request_vectors = untaught
        add_answered_requests(model, _slates(model, others), _K)
        learned_from.append(model.request_vectors is not untaught)
        rows = np.flatnonzero(part == number)
        asked = [uses[row] for row in rows]
        learned[rows] = _ndcg(model, asked)
        pairs, words = {use[1:3] for use in others}, {use[2] for use in others}
        unseen_pairs[rows] = [use[1:3] not in pairs for use in asked]
        unseen_requests[rows] = [use[2] not in words for use in asked]
    chosen = {
        "all": np.ones(len(uses), dtype=bool),
        "unseen_pairs": unseen_pairs,
        "unseen_requests": unseen_requests,
    }
    compared = {name: _compared(learned, without, users, rows) for name, rows in chosen.items()}
    return {"parts_that_learned": sum(learned_from), **compared}


def _slates(model: Recommender, uses: list[TagUse]) -> Slates:
    """Return a list of one film for each use, shown and answered when the tag was given."""
    uses = sorted(uses, key=lambda use: use[3])
    moments = np.array([use[3] for use in uses])
    return Slates(
        user_keys=np.array([use[0] for use in uses], dtype=object),
        shown_at=moments,
        offsets=np.arange(len(uses) + 1),
        items=model.catalogue.lookup([use[1] for use in uses]).astype(np.int64),
        place=np.zeros(len(uses), dtype=np.int64),
        answered_at=moments,
        requests=np.array([use[2] for use in uses], dtype=object),
    )


@torch.no_grad()
def _ndcg(model: Recommender, uses: list[TagUse]) -> NDArray[np.float64]:
    targets = model.catalogue.lookup([use[1] for use in uses])
    values = np.zeros(len(uses))
    for start in range(0, len(uses), _BATCH):
        rows = slice(start, start + _BATCH)
        logits = model.match_requests([use[2] for use in uses[rows]]).numpy()
        values[rows] = ndcg_of_ranks(ranks(logits, targets[rows]), _K)
    return values


def _compared(
    learned: NDArray[np.float64],
    without: NDArray[np.float64],
    users: NDArray[np.int64],
    rows: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return means over requests and over users, and the difference of the latter with its 95 % interval."""
    pair = np.stack([learned[rows], without[rows]], axis=1)
    means = user_means(pair, users[rows])[2]
    interval = paired_bootstrap(means[:, 0], means[:, 1])
    return {
        "requests": int(rows.sum()),
        "users": len(means),
        "ndcg_over_requests": pair.mean(0).tolist(),
        "ndcg_over_users": means.mean(0).tolist(),
        "learned_minus_without": [interval.value, interval.low, interval.high],
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.answered_requests", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder of MovieLens latest-small")
    parser.add_argument("--seed", type=int, default=0, help="of the parts of the users")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
