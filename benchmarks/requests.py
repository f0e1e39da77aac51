"""Evaluate requests in natural language on held-out free-text tags.

    python -m benchmarks.requests --data ml-latest-small-folder --json F

Reads `movies.csv`, `ratings.csv` and `tags.csv` of MovieLens latest-small. A fifth of the different tags is
held out with every use. The other tags are attributes of their films, which are requests in training. Each
use of a held-out tag is a case: the user who gave the tag requests its words and should get films with the
tag.

`ours` uses history and request, `history_only` and `request_only` one of them, and `neither` nothing.
`encoder_alone` is the cosine of request and film text by the untrained encoder. There are two metrics: the
share of the ten best films that have the tag (mean over tags), and NDCG@10 of the film that the user gave
the tag to (mean over users). Most tags belong to one or two films; `possible` is the largest share that can
be reached.
"""

import argparse
import csv
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import Dataset, load_dataset
from recsys.evaluation.bootstrap import mean_intervals, paired_bootstrap
from recsys.evaluation.ranking.metrics import ranks, user_means
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.ranking import top_k
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings, Settings, load_settings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.full import fit_full

HELD_OUT_SHARE = 0.2
_MIN_LETTERS = 3
_BATCH = 128

TagUse = tuple[str, str, str, int]
"""User, film, tag in lower case, time in microseconds."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    home = Path(tempfile.mkdtemp(prefix="recsys-requests-"))
    try:
        figures = measure(options.data, load_settings(home), home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(folder: Path, settings: Settings, home: Path) -> dict[str, Any]:
    """Train with the known tags and request the held-out ones."""
    dataset = load_dataset("ml-latest-small", folder, home)
    uses = read_tags(folder / "tags.csv")
    tags = sorted({tag for _, _, tag, _ in uses})
    rng = np.random.default_rng(0)
    held_out = set(rng.permutation(tags)[: round(HELD_OUT_SHARE * len(tags))].tolist())
    tags_of: dict[str, set[str]] = defaultdict(set)
    for _, film, tag, _ in uses:
        if tag not in held_out:
            tags_of[film].add(tag)
    catalogue = _with_tags(dataset.catalogue, tags_of)
    model = fit_full(catalogue, dataset.event_types, dataset.sequences, settings, home / "run").model
    requested = [use for use in uses if use[2] in held_out and use[1] in catalogue.index]
    figures = judge(model, dataset, catalogue, uses, requested)
    return {"tags": len(tags), "held_out_tags": len(held_out), **figures}


def judge(
    model: Recommender, dataset: Dataset, catalogue: Catalogue, uses: list[TagUse], requested: list[TagUse]
) -> dict[str, Any]:
    """Request the tags in `requested`; a film has a tag if any of `uses` says so."""
    histories, users = _histories(dataset, catalogue, requested)
    requests = [tag for _, _, tag, _ in requested]
    targets = catalogue.lookup([film for _, film, _, _ in requested])
    nothing = Sequences.empty(histories.user_keys)
    given = {
        "ours": _rank(model, histories, requests, targets),
        "history_only": _rank(model, histories, None, targets),
        "request_only": _rank(model, nothing, requests, targets),
        "neither": _rank(model, nothing, None, targets),
        "encoder_alone": _encoder_alone(dataset, catalogue, requests, targets),
    }
    tags = sorted(set(requests))
    relevant = _films_of_tags(uses, catalogue, tags)
    of_tag = np.searchsorted(np.array(tags, dtype=object), np.array(requests, dtype=object))
    shares = {name: _share_tagged(best, requests, relevant) for name, (_, best) in given.items()}
    possible = np.array([min(10, len(relevant[tag])) / 10 for tag in tags])
    figures: dict[str, Any] = {
        "cases": len(requested), "users": len(np.unique(users)), "asked_tags": len(tags)
    }  # fmt: skip
    figures["possible"] = float(possible.mean())
    figures["tagged_in_top_10"] = _compared(shares, of_tag)
    figures["ndcg_at_10"] = _compared({name: ndcg for name, (ndcg, _) in given.items()}, users)
    return figures


def _compared(values: dict[str, NDArray[np.float64]], groups: NDArray[np.int64]) -> dict[str, Any]:
    """Return means over groups of values [cases] and differences to `ours`, with 95 % intervals."""
    means = {name: user_means(value[:, None], groups)[2][:, 0] for name, value in values.items()}
    figures: dict[str, Any] = {}
    for name, value in means.items():
        interval = mean_intervals(value[:, None], 10_000, 0.95)[0]
        figures[name] = {"mean": interval.value, "low": interval.low, "high": interval.high}
        if name != "ours":
            pair = paired_bootstrap(means["ours"], value)
            figures[name]["ours_minus_it"] = [pair.value, pair.low, pair.high]
    return figures


def read_tags(path: Path) -> list[TagUse]:
    """Return (user, film, tag in lower case, time in microseconds)."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (row["userId"], row["movieId"], row["tag"].strip().lower(), int(row["timestamp"]) * 1_000_000)
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if len(row[2]) >= _MIN_LETTERS]


def _with_tags(catalogue: Catalogue, tags_of: dict[str, set[str]]) -> Catalogue:
    attributes = [
        attributes | ({"tags": sorted(tags_of[item])} if item in tags_of else {})
        for item, attributes in zip(catalogue.item_ids.tolist(), catalogue.attributes, strict=True)
    ]
    return Catalogue.build(catalogue.item_ids.tolist(), catalogue.titles, None, attributes)


def _histories(
    dataset: Dataset, catalogue: Catalogue, requested: list[TagUse]
) -> tuple[Sequences, NDArray[np.int64]]:
    """Return each case's history before the request, without the tagged film, and its user."""
    sequences = dataset.sequences
    row = {user: number for number, user in enumerate(sequences.user_keys)}
    users = np.array([row[user] for user, _, _, _ in requested])
    histories = sequences.take_users(users)
    owner = histories.event_users()
    moments = np.array([moment for _, _, _, moment in requested])
    films = catalogue.lookup([film for _, film, _, _ in requested])
    keep = (histories.occurred_at < moments[owner]) & (histories.item_index != films[owner])
    return histories.where(keep), users


def _rank(
    model: Recommender, histories: Sequences, requests: list[str] | None, targets: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return NDCG@10 [cases] and the ten best films [cases, 10]."""
    scorer = model.scorer()
    values, best = np.zeros(len(targets)), np.zeros((len(targets), 10), dtype=np.int32)
    for begin in range(0, len(targets), _BATCH):
        rows = np.arange(begin, min(begin + _BATCH, len(targets)))
        own = histories.take_users(rows)
        part = None if requests is None else [requests[row] for row in rows]
        scores = scorer.score(scorer.user_vectors(own), own, part).cpu().numpy()
        values[rows] = ndcg_of_ranks(ranks(scores, targets[rows]), 10)
        best[rows] = top_k(scores, 10)[0]
    return values, best


def _encoder_alone(
    dataset: Dataset, catalogue: Catalogue, requests: list[str], targets: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    frozen = Recommender.build(ModelSettings(fine_tuning="frozen"), catalogue, dataset.event_types)
    vectors = frozen.text_encoder().encode(requests).numpy()
    films = frozen.text_vectors.numpy()
    scores = vectors @ (films / np.linalg.norm(films, axis=1, keepdims=True)).T
    return ndcg_of_ranks(ranks(scores, targets), 10), top_k(scores, 10)[0]


def _films_of_tags(uses: list[TagUse], catalogue: Catalogue, tags: list[str]) -> dict[str, set[int]]:
    films: dict[str, set[int]] = {tag: set() for tag in tags}
    for _, film, tag, _ in uses:
        if tag in films and film in catalogue.index:
            films[tag].add(catalogue.index[film])
    return films


def _share_tagged(
    best: NDArray[np.int32], requests: list[str], relevant: dict[str, set[int]]
) -> NDArray[np.float64]:
    """Return the share [cases] of the ten best films that have the tag."""
    return np.array(
        [
            np.mean([film in relevant[tag] for film in films])
            for films, tag in zip(best.tolist(), requests, strict=True)
        ]
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.requests", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder of MovieLens latest-small")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
