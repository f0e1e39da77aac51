"""Compare training speed with RecTools' SASRec and with one BERT pass per (user, item) pair.

    make bench-peers
    python -m benchmarks.training --json F
    python -m benchmarks.training --data FOLDER

Both models have the same width (also in the feed-forward part), depth, heads and length, the same data
(leave-one-out; MovieLens-100K, or what is in FOLDER) and the same threads. The peer trains with the full
softmax, ours as the settings say for a catalogue of this size. `ratio` is the peer's median epoch divided by
ours, each without validation. `seconds_to_peer_quality` is our training time until we first reach the peer's
best validation NDCG@10; `peer_fit_seconds` is the peer's own time until then. Ours trains on every event, the
peer on each user's latest ones.

The literal approach passes the texts of a user's latest items and of one item, padded to 128 tokens, through
`BertForSequenceClassification`, forward and backward, for one training signal. `literal_ratio` is its time
per signal divided by ours.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.cases import Task
from benchmarks.datasets import NAMES, Dataset, load_dataset
from benchmarks.peers import run_sasrec, write_split
from benchmarks.protocols import make_task
from recsys.model.base_encoder import find_base_encoder
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings, Settings, TrainingSettings
from recsys.snapshot.sequences import Sequences
from recsys.training.full import fit_full

WIDTH, BLOCKS, HEADS, DROPOUT = 64, 2, 2, 0.3
LITERAL_TOKENS, LITERAL_BATCH, LITERAL_STEPS = 128, 16, 6


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    home = Path(tempfile.mkdtemp(prefix="recsys-training-"))
    try:
        name = options.dataset or (options.data.name if options.data else "ml-100k")
        dataset = load_dataset(name, options.data, options.cache)
        task = make_task(dataset, "leave-one-out")
        figures = _ours_and_peer(dataset, task, options, home)
        figures |= _literal(dataset, task.train, figures["epoch_seconds"])
        figures |= _text(dataset, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _ours_and_peer(dataset: Dataset, task: Task, options: argparse.Namespace, home: Path) -> dict[str, Any]:
    write_split(task, len(dataset.catalogue), home / "split.npz")
    peer = run_sasrec(
        home / "split.npz", home / "peer", seed=0, factors=WIDTH, blocks=BLOCKS, heads=HEADS,
        length=options.length, dropout=options.peer_dropout, learning_rate=options.peer_learning_rate,
        threads=options.threads, epochs=options.peer_epochs, minutes=options.peer_minutes,
    )  # fmt: skip
    print(
        f"peer: {len(peer['epochs'])} epochs, best validation {peer['best_validation_ndcg']:.4f}", flush=True
    )
    ours: list[dict[str, Any]] = []

    def report(row: dict[str, Any]) -> None:
        ours.append(row)
        print(f"epoch {row['epoch']}: {row['validation_ndcg']:.4f} ({row['seconds']:.1f} s)", flush=True)

    settings = Settings(
        home=home,
        model=ModelSettings(
            dim=WIDTH,
            layers=BLOCKS,
            heads=HEADS,
            feed_forward=1,
            max_events=options.length,
            dropout=DROPOUT,
            fine_tuning="frozen",
        ),
        training=TrainingSettings(request_steps=0, rating_weight=0, feedback_weight=0, epochs=options.epochs),
    )
    fit_full(
        dataset.catalogue, dataset.event_types, task.known, settings, home / "ours",
        split=task.split, report=report,
    )  # fmt: skip
    epoch = statistics.median(row["training_seconds"] for row in ours)
    peer_epoch = statistics.median(row["seconds"] for row in peer["epochs"])
    goal = peer["best_validation_ndcg"]
    return {
        "dataset": dataset.name,
        "threads": options.threads,
        "training_events": task.train.events,
        "epoch_seconds": epoch,
        "peer_epoch_seconds": peer_epoch,
        "ratio": peer_epoch / epoch,
        "peer_validation_ndcg": goal,
        "validation_ndcg": max(row["validation_ndcg"] for row in ours),
        "seconds_to_peer_quality": _seconds_until(ours, goal, "training_seconds"),
        "peer_fit_seconds": _seconds_until(peer["epochs"], goal, "seconds"),
    }


def _seconds_until(epochs: list[dict[str, Any]], goal: float, clock: str) -> float | None:
    spent = 0.0
    for row in epochs:
        spent += row[clock]
        if row["validation_ndcg"] >= goal:
            return spent
    return None


def _literal(dataset: Dataset, train: Sequences, epoch_seconds: float) -> dict[str, Any]:
    """Time a training step of a pairwise classifier on the same base encoder."""
    base = find_base_encoder(ModelSettings().base_encoder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.folder, local_files_only=True)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base.folder, num_labels=2, local_files_only=True
    )
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    seconds = []
    for step in range(LITERAL_STEPS):
        users, items = [], []
        for user in range(step * LITERAL_BATCH, (step + 1) * LITERAL_BATCH):
            own = train.item_index[train.offsets[user % train.users] : train.offsets[user % train.users + 1]]
            users.append("; ".join(dataset.catalogue.titles[i] for i in own[-20:-1]))
            items.append(dataset.catalogue.texts[own[-1]])
        began = time.perf_counter()
        batch = tokenizer(
            users, items, truncation="longest_first", padding="max_length", max_length=LITERAL_TOKENS,
            return_tensors="pt",
        )  # fmt: skip
        model(**batch, labels=torch.ones(LITERAL_BATCH, dtype=torch.long)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    signal = statistics.median(seconds) / LITERAL_BATCH
    return {
        "literal_seconds_per_signal": signal,
        "seconds_per_signal": epoch_seconds / train.events,
        "literal_ratio": signal / (epoch_seconds / train.events),
    }


def _text(dataset: Dataset, home: Path) -> dict[str, Any]:
    """Count the tokens that a first and a second encoding of the same catalogue compute."""
    counts = []
    for _ in range(2):
        model = Recommender.build(
            ModelSettings(), dataset.catalogue, dataset.event_types, cache_folder=home / "text"
        )
        counts.append((model.text_encoder().useful_tokens, model.text_encoder().frozen_tokens))
    text = model.text_encoder()
    return {
        "useful_token_share": text.useful_tokens / max(text.computed_tokens, 1),
        "frozen_tokens_first_night": counts[0][1],
        "frozen_tokens_second_night": counts[1][1],
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", choices=NAMES, help="default: ml-100k, or the files in --data")
    parser.add_argument("--data", type=Path, help="folder of the data set, or of own files")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--length", type=int, default=100, help="latest events of a user that both read")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--peer-epochs", type=int, default=200)
    parser.add_argument("--peer-minutes", type=float, default=1_440, help="no peer epoch starts after these")
    parser.add_argument("--peer-dropout", type=float, default=0.4)
    parser.add_argument("--peer-learning-rate", type=float, default=0.001)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/recsys-benchmarks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
