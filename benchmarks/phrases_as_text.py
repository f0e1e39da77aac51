"""Measure whether phrases from comments help as the text of items that have no other text.

    python -m benchmarks.phrases_as_text --data DIR --seeds 3 --json F

`DIR` holds reviews as in `benchmarks.comments`, whose items have no titles. Each event of the last tenth
of the time is predicted from all events before it, as in the temporal split of `benchmarks.quality`. A full
fine-tune is given the events before once without and once with their comments. Every event has a rating and
no opinions are read, so the comments only serve as texts (`recsys.training.comment_texts`).

Figures are NDCG@10, means over users of the mean over seeds; intervals are percentiles of a bootstrap over
users, paired with the fits without comments. `rare` are events with items that had at most 15 events before
the last tenth.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.comments import Reviews
from benchmarks.datasets import PRODUCT_EVENT_TYPES, Dataset
from benchmarks.judging import judge
from benchmarks.quality import Neural
from benchmarks.splits import TEMPORAL_SHARE, Protocol, make_split
from recsys.evaluation.bootstrap import paired_bootstrap
from recsys.evaluation.evaluated_recommender import EvaluatedRecommender
from recsys.settings import Settings, load_settings
from recsys.snapshot.catalogue import Catalogue
from recsys.training.full import fit_full

RARE = 15
"""Events before the last tenth, up to which an item is rare."""


def measure(reviews: Reviews, settings: Settings, seeds: int) -> dict[str, Any]:
    """Return the figures without and with phrases."""
    before = reviews.times < np.quantile(reviews.times, 1 - TEMPORAL_SHARE, method="higher")
    gains: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    for name in ("none", "phrases"):
        sequences = reviews.sequences(np.zeros(len(before), dtype=bool), comments=name == "phrases")
        split = make_split(Dataset(name, reviews.catalogue, PRODUCT_EVENT_TYPES, sequences), "temporal")
        gains[name] = {"fused": [], "neural": []}
        for seed in range(seeds):
            for part, ndcg in _fit_and_judge(reviews.catalogue, split, settings, seed).items():
                gains[name][part].append(ndcg)
                print(f"  {name}, seed {seed}, {part}: NDCG@10 {ndcg.mean():.4f} of all events", flush=True)
    earlier = np.bincount(reviews.item[before], minlength=len(reviews.catalogue))
    rare = earlier[split.cases.targets] <= RARE
    return {
        name: {
            f"{part}, {which}": _compare(parts[part], gains["none"][part], split.cases.users, rows)
            for part in parts
            for which, rows in (("all", np.ones(len(rare), dtype=bool)), ("rare", rare))
        }
        for name, parts in gains.items()
    }


def _fit_and_judge(
    catalogue: Catalogue, split: Protocol, settings: Settings, seed: int
) -> dict[str, NDArray[np.float64]]:
    training = settings.training.model_copy(update={"seed": seed, "max_comments": 0})
    seeded = settings.model_copy(update={"training": training})
    with tempfile.TemporaryDirectory(dir=settings.home) as folder:
        model = fit_full(catalogue, PRODUCT_EVENT_TYPES, split.known, seeded, Path(folder)).model
    scorers = {"fused": EvaluatedRecommender(model, PRODUCT_EVENT_TYPES), "neural": Neural(model)}
    return {part: judge(scorer, {}, 0.0, split.cases).metrics[:, 0] for part, scorer in scorers.items()}


def _compare(
    own: list[NDArray[np.float64]],
    none: list[NDArray[np.float64]],
    users: NDArray[np.int64],
    rows: NDArray[np.bool_],
) -> dict[str, float]:
    _, user = np.unique(users[rows], return_inverse=True)
    events = np.bincount(user)
    mine, others = (np.bincount(user, np.mean(each, axis=0)[rows]) / events for each in (own, none))
    found = paired_bootstrap(mine, others)
    return {
        "users": len(events), "ndcg_at_10": float(mine.mean()), "minus_none": found.value,
        "low": found.low, "high": found.high,
    }  # fmt: skip


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the reviews")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recsys-phrases-") as home:
        figures = measure(Reviews(arguments.data), load_settings(Path(home)), arguments.seeds)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
