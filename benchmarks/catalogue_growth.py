"""Measure how the cost of each heavy step grows with the number of items.

    python -m benchmarks.catalogue_growth --json F

Catalogues of several sizes, with made-up feedback as in `benchmarks.collaborative`: twice as many users as
items, items in groups, 20 events a user. Item texts are random vectors: encoding them is linear in the items.

- `epoch`: one epoch of a full fine-tune with the defaults (`frozen`). At most `--epoch-users` users are
  trained on; the seconds are those of all users, in proportion.
- `collaborative`: the fit of collaborative filtering on all users.
- `succession`: the counts of what follows what, of all users.
- `micro_update`: a micro-update on one fresh event of 1,000 users each, with both of these.
- `publish`: publishing everything from the history to the swapped list for `--publish-users` users.

Each step runs in a process of its own. Seconds are of processor time, that of Postgres included, because
other processes of a shared machine hardly change it. `rss_mib` is the peak memory of the process during the
step, with its input but without what making it up needed. `exponent` is the largest slope of log seconds over
log items between neighbouring sizes, and `exponents` has all of them.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.collaborative import TYPES, histories_of, made_items, make_up
from benchmarks.publishing import Processor, load_made, publishable
from benchmarks.scoring import TEXT_WIDTH, peak_rss_mib
from recsys.columns import PURPOSES, Purpose
from recsys.model.base_encoder import EncoderIdentity
from recsys.model.collaborative import EASE, Popularity
from recsys.model.recommender import Recommender
from recsys.model.succession import Succession
from recsys.publishing.publish import publish
from recsys.settings import ModelSettings, Settings
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import Sequences as Histories
from recsys.training.batching import UserBatches
from recsys.training.micro import fit_micro
from recsys.training.objective import LossWeights, Objective
from recsys.training.trainer import Trainer

STEPS = ("epoch", "collaborative", "succession", "micro_update", "publish")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalogue_growth")
    parser.add_argument("--items", default="1000,10000,100000", help="sizes of the catalogues, with commas")
    parser.add_argument("--steps", default=",".join(STEPS), help="steps to measure, with commas")
    parser.add_argument("--epoch-users", type=int, default=20_000, help="most users that an epoch trains on")
    parser.add_argument("--publish-users", type=int, default=4_096, help="users to publish for")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.steps.split(",")) - set(STEPS)):
        parser.error(f"no step is named {', '.join(unknown)}; steps are {', '.join(STEPS)}")
    sizes = [int(size) for size in options.items.split(",")]
    users = {"epoch": options.epoch_users, "publish": options.publish_users}
    steps: dict[str, dict[str, Any]] = {}
    for name in options.steps.split(","):
        rows = [_alone(name, size, users.get(name, 0)) for size in sizes]
        seconds = [row[0] for row in rows]
        slopes = (np.diff(np.log(seconds)) / np.diff(np.log(sizes))).tolist()
        steps[name] = {
            "seconds": seconds,
            "rss_mib": [row[1] for row in rows],
            "exponents": slopes,
            "exponent": max(slopes, default=float("nan")),
        }
        print(name, json.dumps(steps[name]), flush=True)
        figures = {"items": sizes, "threads": torch.get_num_threads(), "users": users, "steps": steps}
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _alone(step: str, items: int, users: int) -> tuple[float, float]:
    """Return the processor seconds and the peak memory, in MiB, of a step in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, step, items, users).result()


def _measure(step: str, items: int, users: int) -> tuple[float, float]:
    steps = {
        "epoch": _epoch,
        "collaborative": _collaborative,
        "succession": _succession,
        "micro_update": _micro_update,
        "publish": _publish,
    }
    return steps[step](items, users), peak_rss_mib()


def _forget_peak() -> None:
    """Start measuring the peak memory of this process anew (see proc(5))."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _epoch(items: int, most: int) -> float:
    made = made_items(items)
    users, counts = len(made), np.bincount(made.ravel(), minlength=items).astype(np.float32)
    trained = histories_of(made, np.random.default_rng(0).permutation(users)[:most])
    training = Settings().training.model_copy(update={"epochs": 1})
    model = _made_model(items, counts).train()
    del made
    _forget_peak()
    began = time.process_time()
    trainer = Trainer(
        model,
        Objective(model, LossWeights(liking=0.0, rating=0.0), counts, training),
        UserBatches(trained, model.settings.max_events, training.batch_size, training.seed),
        training,
    )
    ready = time.process_time()
    done = [ready]
    trainer.on_step = lambda *_: done.append(time.process_time())
    trainer.train_epoch(0, lambda: False)
    once = ready - began + time.process_time() - done[-1]
    return once + (done[-1] - ready) * users / trained.users


def _collaborative(items: int, _: int) -> float:
    _, histories = _made_events(items)
    _forget_peak()
    began = time.process_time()
    EASE.fit(histories, items, 300.0, keep_counts=True)
    return time.process_time() - began


def _succession(items: int, _: int) -> float:
    _, histories = _made_events(items)
    _forget_peak()
    began = time.process_time()
    Succession.fit([histories], items)
    return time.process_time() - began


def _micro_update(items: int, _: int) -> float:
    fresh, histories = _made_events(items)
    counts = np.bincount(histories.item_index, minlength=items).astype(np.float32)
    model = _made_model(items, counts)
    model.collaborative = EASE.fit(histories, items, 300.0, keep_counts=True)
    model.succession = Succession.fit([histories], items)
    is_last = np.zeros(fresh.events, dtype=bool)
    is_last[fresh.offsets[1:] - 1] = True
    purpose = np.where(is_last, PURPOSES.index(Purpose.FRESH), PURPOSES.index(Purpose.HISTORY))
    later = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=365)
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        del histories, counts
        _forget_peak()
        began = time.process_time()
        fit_micro(model, replace(fresh, purpose=purpose.astype(np.int8)), later, settings)
        return time.process_time() - began


def _publish(items: int, users: int) -> float:
    with publishable(None, users, items) as (engine, settings, server):
        processor = Processor(server)
        began = processor.seconds()
        publish(engine, settings, scope="all", run_key="benchmark", load=load_made)
        return processor.seconds() - began


def _made_events(items: int) -> tuple[Histories, Histories]:
    """Return the events of 1,000 users with one more than the model knows, and all that it knows."""
    known, before, after = make_up(items)
    return after, Histories.concat([before, known])


def _made_model(items: int, counts: np.ndarray) -> Recommender:
    torch.manual_seed(0)
    catalogue = Catalogue.build(
        [f"item-{n}" for n in range(items)], [f"Title {n}" for n in range(items)], None
    )
    encoder = EncoderIdentity("made", "", TEXT_WIDTH)
    model = Recommender(
        ModelSettings(base_encoder="made"), catalogue, TYPES, encoder, torch.randn(items, TEXT_WIDTH)
    )
    model.items.trained.copy_(torch.from_numpy(counts > 0))
    model.popularity = Popularity(counts)
    return model


if __name__ == "__main__":
    main()
