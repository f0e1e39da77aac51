"""Recommendations for a request in words, tested on free-text tags that were held out by tag.

    python -m benchmarks.requests --data ml-latest-small-folder --json F

Reads `movies.csv`, `ratings.csv` and `tags.csv` of MovieLens latest-small. A fifth of the different tags is
held out with every use of it; the others are attributes of their films, which serve as requests in training.
Then each use of a held-out tag is a case: the user who gave it asks for its words, and the film that it was
given to is to be found among all films, by what the user had done with other films before. `ours` answers
from history and request, `history_only` is the same model without the request, `request_only` without the
history, and `text_neighbours` takes the cosine of the frozen encoder between request and film text.
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
from recsys.evaluation.metrics import ranks, user_means
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.ranking import top_k
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings, Settings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.full import fit_full

HELD_OUT_SHARE = 0.2
_LEAST_LETTERS = 3
_BATCH = 128


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    options = _options(arguments)
    home = Path(tempfile.mkdtemp(prefix="recsys-requests-"))
    try:
        figures = measure(options.data, Settings(home=home), home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(folder: Path, settings: Settings, home: Path) -> dict[str, Any]:
    """Train on the tags that are known, ask for those that are not."""
    dataset = load_dataset("ml-latest-small", folder, home)
    uses = _read_tags(folder / "tags.csv")
    tags = sorted({tag for _, _, tag, _ in uses})
    rng = np.random.default_rng(0)
    held_out = set(rng.permutation(tags)[: round(HELD_OUT_SHARE * len(tags))].tolist())
    told: dict[str, set[str]] = defaultdict(set)
    for _, film, tag, _ in uses:
        if tag not in held_out:
            told[film].add(tag)
    catalogue = _with_tags(dataset.catalogue, told)
    model = fit_full(catalogue, dataset.event_types, dataset.sequences, settings, home / "run").model

    asked = [use for use in uses if use[2] in held_out and use[1] in catalogue.index]
    histories, users = _histories(dataset, catalogue, asked)
    requests = [tag for _, _, tag, _ in asked]
    targets = catalogue.lookup([film for _, film, _, _ in asked])
    nothing = Sequences.empty(histories.user_keys)
    given = {
        "ours": _answer(model, histories, requests, targets),
        "history_only": _answer(model, histories, None, targets),
        "request_only": _answer(model, nothing, requests, targets),
        "neither": _answer(model, nothing, None, targets),
        "text_neighbours": _text_neighbours(dataset, catalogue, requests, targets),
    }
    relevant = _films_of_tags(uses, catalogue, sorted(held_out))
    values = {name: value for name, (value, _) in given.items()}
    means = {name: user_means(value[:, None], users)[2][:, 0] for name, value in values.items()}
    figures: dict[str, Any] = {
        "tags": len(tags), "held_out_tags": len(held_out), "cases": len(asked), "users": len(means["ours"]),
        "ndcg_at_10": {}, "ndcg_over_cases": {}, "tagged_in_top_10": {}, "paired": {},
    }  # fmt: skip
    for name, value in means.items():
        interval = mean_intervals(value[:, None], 10_000, 0.95)[0]
        figures["ndcg_at_10"][name] = [interval.value, interval.low, interval.high]
        figures["ndcg_over_cases"][name] = float(values[name].mean())
        figures["tagged_in_top_10"][name] = _share_tagged(given[name][1], requests, users, relevant)
        if name != "ours":
            pair = paired_bootstrap(means["ours"], value)
            figures["paired"][name] = {"difference": pair.value, "low": pair.low, "high": pair.high}
    return figures


def _read_tags(path: Path) -> list[tuple[str, str, str, int]]:
    """Return (user, film, tag in lower case, time in microseconds)."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (row["userId"], row["movieId"], row["tag"].strip().lower(), int(row["timestamp"]) * 1_000_000)
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if len(row[2]) >= _LEAST_LETTERS]


def _with_tags(catalogue: Catalogue, told: dict[str, set[str]]) -> Catalogue:
    attributes = [
        attributes | ({"tags": sorted(told[item])} if item in told else {})
        for item, attributes in zip(catalogue.item_ids.tolist(), catalogue.attributes, strict=True)
    ]
    return Catalogue.build(catalogue.item_ids.tolist(), catalogue.titles, None, attributes)


def _histories(
    dataset: Dataset, catalogue: Catalogue, asked: list[tuple[str, str, str, int]]
) -> tuple[Sequences, NDArray[np.int64]]:
    """Return what each asking user did before, without the film in question, and who asks."""
    sequences = dataset.sequences
    row = {user: number for number, user in enumerate(sequences.user_keys)}
    users = np.array([row[user] for user, _, _, _ in asked])
    histories = sequences.take_users(users)
    owner = histories.event_users()
    moments = np.array([moment for _, _, _, moment in asked])
    films = catalogue.lookup([film for _, film, _, _ in asked])
    keep = (histories.occurred_at < moments[owner]) & (histories.item_index != films[owner])
    return histories.where(keep), users


def _answer(
    model: Recommender, histories: Sequences, requests: list[str] | None, targets: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return NDCG@10 [cases] and the ten best films [cases, 10]."""
    values, best = np.zeros(len(targets)), np.zeros((len(targets), 10), dtype=np.int32)
    for begin in range(0, len(targets), _BATCH):
        rows = np.arange(begin, min(begin + _BATCH, len(targets)))
        part = None if requests is None else [requests[row] for row in rows]
        scores = model.score(histories.take_users(rows), part)
        values[rows] = ndcg_of_ranks(ranks(scores, targets[rows]), 10)
        best[rows] = top_k(scores, 10)[0]
    return values, best


def _text_neighbours(
    dataset: Dataset, catalogue: Catalogue, requests: list[str], targets: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    frozen = Recommender.build(ModelSettings(fine_tuning="frozen"), catalogue, dataset.event_types)
    asked = frozen.text_encoder().encode(requests).numpy()
    films = frozen.text_vectors.numpy()
    scores = asked @ (films / np.linalg.norm(films, axis=1, keepdims=True)).T
    return ndcg_of_ranks(ranks(scores, targets), 10), top_k(scores, 10)[0]


def _films_of_tags(
    uses: list[tuple[str, str, str, int]], catalogue: Catalogue, tags: list[str]
) -> dict[str, set[int]]:
    films: dict[str, set[int]] = {tag: set() for tag in tags}
    for _, film, tag, _ in uses:
        if tag in films and film in catalogue.index:
            films[tag].add(catalogue.index[film])
    return films


def _share_tagged(
    best: NDArray[np.int32], requests: list[str], users: NDArray[np.int64], relevant: dict[str, set[int]]
) -> list[float]:
    """Return the mean over (user, tag) of the share of the ten best with the tag, and its interval."""
    first = {pair: row for row, pair in reversed(list(enumerate(zip(users.tolist(), requests, strict=True))))}
    shares = [np.mean([film in relevant[tag] for film in best[row]]) for (_, tag), row in first.items()]
    interval = mean_intervals(np.array(shares)[:, None], 10_000, 0.95)[0]
    return [interval.value, interval.low, interval.high]


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
