"""Measure the model FLOPs utilisation (MFU) of training the text encoder on a GPU.

    python -m benchmarks.text_training --json F
    python -m benchmarks.text_training --compile --json F
    torchrun --nproc-per-node 2 -m benchmarks.text_training

The product's training loop trains all weights (`fine_tuning=full`) of a randomly initialised encoder with the
size of BERT-base (12 layers, width 768) on synthetic items and histories. Texts have 16 to 160 tokens and are
cut at 128. Each step encodes `--items` texts with gradient, trains the other parts of the recommender and
updates all weights. The time of a step includes tokenising and everything else it needs, but not encoding the
catalogue again at the end of an epoch. The GPU is synchronised after each window of `--window` steps; the
figures are those of the median window.

Model FLOPs of a token, forward and backward: 6 for each weight of the layers, without embeddings, and
12 * layers * width * length for the attention, where length is that of the token's text. The MFU is their
rate divided by the device's dense bfloat16 peak; padding does not count. `matmul_tflops` is the rate of a
product of square bfloat16 matrices in the same run, the best that the device reaches.

With several processes (torchrun) each has its own GPU and encodes all texts of a step. The figures are those
of the first process.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from recsys.model.base_encoder import find_base_encoder
from recsys.model.device import choose_device
from recsys.model.recommender import Recommender
from recsys.model.text_encoder import TextEncoder
from recsys.settings import ModelSettings, TrainingSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.batching import UserBatches
from recsys.training.objective import LossWeights, Objective
from recsys.training.parallel import is_first, join_processes, leave_processes
from recsys.training.trainer import Trainer

PEAK_TFLOPS = {
    "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "B200": 2250, "A100": 312, "A10": 125,
    "L40S": 362, "L40": 181, "L4": 121,
}  # fmt: skip
"""Dense bfloat16 peak in TFLOP/s, as stated by the vendor, by part of the device's name; the first match is
used."""
LONGEST = 128
SHORTEST_MADE, LONGEST_MADE = 16, 160
WORDS = 2_000
VOCABULARY = 30_522
EVENTS = 16
"""Events of a user."""
TYPES = EventTypes.from_records([{"event_type": "view", "explicit": False, "weight": 1, "polarity": 0}])


@dataclass(frozen=True)
class Size:
    """Size of the encoder and of its data."""

    layers: int
    width: int
    heads: int
    items: int
    users_per_step: int
    matmul: int


BERT_BASE = Size(layers=12, width=768, heads=12, items=8_192, users_per_step=1_024, matmul=8_192)
SMALL = Size(layers=2, width=32, heads=2, items=64, users_per_step=16, matmul=256)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _options(arguments)
    device = choose_device(options.device)
    join_processes(device)
    try:
        with tempfile.TemporaryDirectory(prefix="recsys-text-training-") as folder:
            figures = measure(options, device, Path(folder))
        if is_first():
            print(json.dumps(figures, indent=2), flush=True)
            if options.json:
                options.json.write_text(json.dumps(figures, indent=2) + "\n")
    finally:
        leave_processes()


def measure(options: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """Train for some steps and return the figures."""
    size = SMALL if options.small else BERT_BASE
    steps = options.warmup + options.windows * options.window
    catalogue = made_catalogue(size.items)
    settings = ModelSettings(
        base_encoder=str(write_encoder(folder, size)), fine_tuning="full", max_text_tokens=LONGEST
    )
    torch.manual_seed(0)
    model = Recommender.build(settings, catalogue, TYPES, device=device)
    text = model.text_encoder()
    if options.compile:
        text.compile_layers()
    clock = Clock(text, device, options.warmup, options.window)
    trainer = made_trainer(model, made_histories(size, steps), size, options.items)
    trainer.on_step = clock.on_step
    trainer.train_epoch(0, lambda: clock.steps >= steps)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "compiled": options.compile,
        "items_per_step": options.items,
        **clock.figures(),
        **_rates(clock, size, catalogue, text, peak_tflops(options, device)),
        "matmul_tflops": matmul_tflops(size.matmul, device),
        "gpu_memory_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
    }


class Clock:
    """Times windows of steps and counts their tokens."""

    def __init__(self, text: TextEncoder, device: torch.device, warmup: int, window: int) -> None:
        self.text = text
        self.device = device
        self.warmup = warmup
        self.window = window
        self.steps = 0
        self.marks: list[tuple[float, int, int]] = []
        """Time in seconds, useful and computed tokens at the end of the warm-up and of each window."""

    def on_step(self, *_: int) -> None:
        """Count a finished step; called by the trainer."""
        self.steps += 1
        if self.steps >= self.warmup and (self.steps - self.warmup) % self.window == 0:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.marks.append((time.perf_counter(), self.text.useful_tokens, self.text.computed_tokens))

    def windows(self) -> list[tuple[float, int, int]]:
        """Return the seconds, useful tokens and computed tokens of each window."""
        return [
            (end[0] - start[0], end[1] - start[1], end[2] - start[2])
            for start, end in zip(self.marks, self.marks[1:], strict=False)
        ]

    def figures(self) -> dict[str, float]:
        """Return the figures of the median window."""
        windows = self.windows()
        useful, computed = sum(w[1] for w in windows), sum(w[2] for w in windows)
        rate = statistics.median(w[1] / w[0] for w in windows)
        return {
            "step_seconds": statistics.median(w[0] for w in windows) / self.window,
            "useful_tokens_per_step": useful / (len(windows) * self.window),
            "useful_tokens_per_second": rate,
            "computed_tokens_per_second": rate * computed / useful,
            "useful_token_share": useful / computed,
        }


def _rates(
    clock: Clock, size: Size, catalogue: Catalogue, text: TextEncoder, peak: float | None
) -> dict[str, float | None]:
    weights = sum(p.numel() for layer in text.layers for p in layer.parameters())
    lengths = np.array([len(ids) for ids in text.tokens.tokenize(catalogue.texts)])
    mean_length = float((lengths**2).sum() / lengths.sum())
    flops = 6 * weights + 12 * size.layers * size.width * mean_length
    reached = flops * clock.figures()["useful_tokens_per_second"] / 1e12
    return {
        "mean_text_tokens": float(lengths.mean()),
        "weights_counted": weights,
        "model_flops_per_token": flops,
        "model_tflops_per_second": reached,
        "peak_tflops": peak,
        "mfu": None if peak is None else reached / peak,
    }


def peak_tflops(options: argparse.Namespace, device: torch.device) -> float | None:
    """Return the given peak or that of the device by its name; None for a CPU or an unknown GPU."""
    if options.peak_tflops is not None:
        return float(options.peak_tflops)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((float(peak) for part, peak in PEAK_TFLOPS.items() if part in name), None)


def matmul_tflops(side: int, device: torch.device) -> float:
    """Return the rate of square bfloat16 products in TFLOP/s."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        for _ in range(5):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append((time.perf_counter() - began) / 5)
    return 2 * side**3 / statistics.median(seconds) / 1e12


def write_encoder(folder: Path, size: Size) -> Path:
    """Save a randomly initialised BERT whose vocabulary contains the synthetic words."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(_word, range(WORDS))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY if size is BERT_BASE else len(vocabulary),
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
    )
    BertModel(config).save_pretrained(folder)
    return find_base_encoder(str(folder)).folder


def _word(number: int) -> str:
    return f"word{number}"


def made_catalogue(items: int) -> Catalogue:
    """Return items with texts of 16 to 160 tokens."""
    rng = np.random.default_rng(0)
    # The tokenizer adds one token at each end of a text.
    lengths = rng.integers(SHORTEST_MADE - 2, LONGEST_MADE - 1, items)
    texts = [" ".join(map(_word, rng.integers(WORDS, size=length))) for length in lengths]
    return Catalogue.build([f"item-{n}" for n in range(items)], [""] * items, texts)


def made_histories(size: Size, steps: int) -> Sequences:
    """Return users with equally long histories, enough for this number of steps."""
    rng = np.random.default_rng(1)
    users = steps * size.users_per_step
    count = users * EVENTS
    return Sequences.build(
        user_keys=[f"user-{n}" for n in range(users)],
        user_index=np.repeat(np.arange(users), EVENTS),
        item_index=rng.integers(size.items, size=count),
        event_type=np.zeros(count, dtype=np.int64),
        value=np.full(count, np.nan),
        occurred_at=np.arange(count, dtype=np.int64) * 1_000_000,
        feedback_id=np.arange(count),
        event_types=TYPES,
    )


def made_trainer(model: Recommender, histories: Sequences, size: Size, items_per_step: int) -> Trainer:
    """Return the training loop of a full fine-tune, with default settings except for the text items."""
    counts = np.bincount(histories.item_index, minlength=size.items).astype(np.float32)
    model.items.trained.copy_(torch.from_numpy(counts > 0))
    training = TrainingSettings(epochs=1, text_epochs=1, text_items_per_step=items_per_step)
    batches = UserBatches(histories, model.settings.max_events, size.users_per_step, training.seed)
    weights = LossWeights(liking=0.0, rating=training.rating_weight)
    return Trainer(model, Objective(model, weights, counts, training), batches, training)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.text_training", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--items", type=int, default=1_024, help="texts encoded with gradient per step")
    parser.add_argument("--compile", action="store_true", help="like RECSYS_TRAINING__COMPILE=true")
    parser.add_argument("--warmup", type=int, default=5, help="steps before the first window")
    parser.add_argument("--windows", type=int, default=5, help="number of windows")
    parser.add_argument("--window", type=int, default=4, help="steps per window")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--peak-tflops", type=float, help="peak of the device; default: known by its name")
    parser.add_argument("--small", action="store_true", help="use a tiny encoder, to try this on a CPU")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
