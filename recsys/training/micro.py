"""The micro-update: teach a parent the fresh feedback without forgetting the old."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.columns import PURPOSES, Purpose
from recsys.errors import NothingToDoError
from recsys.model.collaborative import Popularity
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.recommender import Recommender
from recsys.settings import Settings
from recsys.snapshot.guard import has_forgotten
from recsys.snapshot.sequences import Sequences, microseconds
from recsys.training.batching import UserBatches, ValidationCases, first_occurrences
from recsys.training.checkpoints import restore_weights, seed_everything, weights_of
from recsys.training.full import Fitted
from recsys.training.objective import LossWeights, Objective
from recsys.training.parallel import agree, choose_device
from recsys.training.trainer import LoopSettings, OnStep, Trainer, Validator, time_limit

_MAX_CASES = 300


def fit_micro(
    parent: Recommender,
    sequences: Sequences,
    held_out_from: datetime,
    settings: Settings,
    *,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    on_step: OnStep | None = None,
) -> Fitted:
    """Update a copy of `parent` on the fresh events of a micro snapshot.

    The text encoder is frozen. Fresh and replayed events are targets, history is context;
    `micro_update.distillation_weight` also holds the next-item distribution near the parent's. An item met
    for the first time begins with the id part of its stand-in. Nothing fresh is held back to choose an
    epoch: small steps in a fixed number, and guard users, who are not learned from, tell when to stop.
    Weights of which the gate would say that they have forgotten (`has_forgotten`) are not kept. Popularity
    and collaborative filtering count every fresh event.

    Parameters
    ----------
    parent
        On the catalogue that `sequences` refers to.
    sequences
        All purposes; fresh events from `held_out_from` on, and probe events, are for evaluation only.

    Raises
    ------
    NothingToDoError
        When there is no fresh event to learn from.
    """
    micro, seed = settings.micro_update, settings.training.seed
    start = time.monotonic()
    seed_everything(seed)
    sequences = parent.read_comments(sequences)
    code = {purpose: PURPOSES.index(purpose) for purpose in PURPOSES}
    fresh = (sequences.purpose == code[Purpose.FRESH]) & (sequences.occurred_at < microseconds(held_out_from))
    held_out = np.isin(sequences.purpose, [code[Purpose.FRESH], code[Purpose.FRESH_GUARD]]) & ~fresh
    if not (fresh & (sequences.weight > 0)).any():
        raise NothingToDoError(
            f"no fresh feedback before {held_out_from.isoformat()} to learn from: all of it is held out for "
            "evaluation, negative or of weight 0"
        )
    model = parent.clone().to(choose_device(settings.training.device))
    teacher = parent.to(model.device).eval()
    guard = sequences.purpose == code[Purpose.GUARD]
    target = fresh | (sequences.purpose == code[Purpose.REPLAY])
    weighted = replace(sequences, weight=np.where(target, sequences.weight, 0).astype(np.float32))
    trained = weighted.where(~held_out & ~guard).without_empty_users()
    items = np.unique(sequences.item_index[fresh])
    model.items.meet(torch.from_numpy(items).to(model.device), model.stand_ins)

    guard_cases = Validator.build(_cases(sequences, guard), model, settings.evaluation.k)
    trainer = _trainer(model, teacher, trained, settings)
    trainer.on_step = on_step or trainer.on_step
    out_of_time = time_limit(micro.time_budget_minutes, start)
    best, best_epoch = weights_of(model), 0
    guard_users = len(set(guard_cases.cases.histories.user_keys))
    guard_rank = guard_cases.ranks(model)
    parent_quality = agree(_quality(guard_rank))
    metrics = {"guard_users": guard_users, "parent_guard_ndcg": _ndcg(guard_rank, guard_cases.k)}
    history: list[dict[str, Any]] = []
    stopped = "all epochs done"
    for epoch in range(micro.epochs):
        began = time.monotonic()
        losses = trainer.train_epoch(epoch, out_of_time)
        guard_rank = guard_cases.ranks(model)
        row = {
            "epoch": epoch + 1,
            **losses,
            "guard_ndcg": _ndcg(guard_rank, guard_cases.k),
            "seconds": round(time.monotonic() - began, 3),
        }
        history.append(row)
        report(row)
        change = agree(_quality(guard_rank) - parent_quality)
        if has_forgotten(parent_quality, change, guard_users, settings.gate):
            stopped = "guard users got worse"
            break
        best, best_epoch = weights_of(model), epoch + 1
        metrics["guard_ndcg"] = row["guard_ndcg"]
        if out_of_time():
            stopped = "time budget spent"
            break
    restore_weights(model, best)
    if best_epoch == 0:
        stopped += "; the parent's weights were kept"
        metrics["guard_ndcg"] = metrics["parent_guard_ndcg"]
    _count(model, sequences, fresh, settings)
    model.seat_newcomers()
    return Fitted(model.eval(), history, best_epoch, metrics, stopped)


def _trainer(model: Recommender, teacher: Recommender, trained: Sequences, settings: Settings) -> Trainer:
    micro, training = settings.micro_update, settings.training
    counts = np.bincount(trained.item_index, minlength=len(model.catalogue)).astype(np.float32)
    likes, dislikes = (trained.sentiment > 0).any(), (trained.sentiment < 0).any()
    objective = Objective(
        model,
        LossWeights(
            next_item=training.next_item_weight,
            liking=training.feedback_weight if likes and dislikes else 0.0,
            rating=training.rating_weight,
            distillation=micro.distillation_weight,
        ),
        counts + model.popularity.counts,
        teacher=teacher,
        full_softmax_items=training.full_softmax_items,
        sampled_negatives=training.sampled_negatives,
        seed=training.seed,
    )
    loop = LoopSettings(
        epochs=micro.epochs,
        learning_rate=micro.learning_rate,
        text_learning_rate=0.0,
        text_items_per_step=0,
        text_epochs=0,
        weight_decay=training.weight_decay,
        warmup_share=micro.warmup_share,
        gradient_clip=training.gradient_clip,
        gradient_accumulation=1,
        seed=training.seed,
    )
    batches = UserBatches(trained, model.settings.max_events, micro.batch_size, training.seed)
    return Trainer(model, objective, batches, loop)


def _cases(sequences: Sequences, wanted: NDArray[np.bool_]) -> ValidationCases:
    positions = np.flatnonzero(wanted & (sequences.weight > 0) & first_occurrences(sequences))
    if len(positions) > _MAX_CASES:
        positions = positions[np.linspace(0, len(positions) - 1, _MAX_CASES).astype(np.int64)]
    return ValidationCases(sequences.prefixes(positions), sequences.item_index[positions].astype(np.int64))


def _quality(ranks: NDArray[np.int64]) -> float:
    """Return NDCG without cut-off, which moves with small changes where NDCG@k stands still."""
    return float((1.0 / np.log2(ranks + 1.0)).mean()) if len(ranks) else 0.0


def _ndcg(ranks: NDArray[np.int64], k: int) -> float:
    return float(ndcg_of_ranks(ranks, k).mean()) if len(ranks) else 0.0


def _count(model: Recommender, sequences: Sequences, fresh: NDArray[np.bool_], settings: Settings) -> None:
    """Add the fresh events to what is fitted by counting: popularity and collaborative filtering.

    A fresh event goes together with what its user had before, as far as the snapshot's histories reach.
    """
    added = Popularity.fit(sequences.where(fresh), len(model.catalogue)).counts
    model.popularity = Popularity(model.popularity.counts + added)
    if model.collaborative is not None:
        history = sequences.purpose == PURPOSES.index(Purpose.HISTORY)
        model.collaborative = model.collaborative.updated(
            sequences.where(history),
            sequences.where(history | fresh),
            settings.model.collaborative_penalty,
            neighbours=settings.model.collaborative_neighbours,
        )
