"""Measure whether what people write about items helps as the items' text.

    python -m benchmarks.phrases_as_text --data DIR --seeds 3 --json F

`DIR` holds reviews as in `benchmarks.comments`, whose items have no titles. Phrases come from the comments of
the first nine tenths of the time, and each event of the last tenth is predicted from all events before it, as
in the temporal split of `benchmarks.quality`. Each row is one text of the items: none, or the phrases that at
least so many people use about an item.

Figures are NDCG@10, means over users of the mean over seeds; intervals are percentiles of a bootstrap over
users, paired with items without text. `rare` are events with items that had at most 15 events before the last
tenth.
"""

import argparse
import json
import tempfile
from collections import defaultdict
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
from recsys.model.phrases import Usage, find_phrases, sentences_of
from recsys.settings import Settings, load_settings
from recsys.snapshot.catalogue import Catalogue
from recsys.training.full import fit_full

RARE = 15
"""Events before the last tenth, up to which an item is rare."""


def texts_of(reviews: Reviews, before: NDArray[np.bool_], least: int) -> list[str]:
    """Return `[items]` the phrases of `least` people or more in the comments marked in `before` [events]."""
    comments = {int(row): sentences_of(reviews.texts[row]) for row in np.flatnonzero(before)}
    usage = Usage(
        [(str(reviews.item[row]), str(reviews.user[row]), theirs) for row, theirs in comments.items()], least
    )
    by_item = defaultdict(list)
    for row, theirs in comments.items():
        by_item[int(reviews.item[row])].append(theirs)
    return [
        ", ".join(found.phrase for found in find_phrases(by_item[item], usage))
        for item in range(len(reviews.catalogue))
    ]


def measure(reviews: Reviews, settings: Settings, seeds: int, people: list[int]) -> dict[str, Any]:
    """Return the figures of each text."""
    before = reviews.times < np.quantile(reviews.times, 1 - TEMPORAL_SHARE, method="higher")
    texts = {"none": [""] * len(reviews.catalogue)}
    texts |= {f"phrases of {least} people": texts_of(reviews, before, least) for least in people}
    gains: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    for name, own in texts.items():
        catalogue = Catalogue.build(reviews.catalogue.item_ids.tolist(), own)
        sequences = reviews.sequences(np.zeros(len(before), dtype=bool), comments=False)
        split = make_split(Dataset(name, catalogue, PRODUCT_EVENT_TYPES, sequences), "temporal")
        gains[name] = {"fused": [], "neural": []}
        for seed in range(seeds):
            for part, ndcg in _fit_and_judge(catalogue, split, settings, seed).items():
                gains[name][part].append(ndcg)
                print(f"  {name}, seed {seed}, {part}: NDCG@10 {ndcg.mean():.4f} of all events", flush=True)
    earlier = np.bincount(reviews.item[before], minlength=len(reviews.catalogue))
    rare = earlier[split.cases.targets] <= RARE
    return {
        name: {"items with text": sum(map(bool, texts[name]))}
        | {
            f"{part}, {which}": _compare(parts[part], gains["none"][part], split.cases.users, rows)
            for part in parts
            for which, rows in (("all", np.ones(len(rare), dtype=bool)), ("rare", rare))
        }
        for name, parts in gains.items()
    }


def _fit_and_judge(
    catalogue: Catalogue, split: Protocol, settings: Settings, seed: int
) -> dict[str, NDArray[np.float64]]:
    seeded = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
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
    parser.add_argument("--people", type=int, nargs="+", default=[5], help="fewest people behind a phrase")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recsys-phrases-") as home:
        figures = measure(
            Reviews(arguments.data), load_settings(Path(home)), arguments.seeds, arguments.people
        )
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
