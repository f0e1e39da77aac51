"""The micro-update: train a copy of the parent on fresh feedback without forgetting old behaviour."""

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
from recsys.model.appeal import Appeal
from recsys.model.collaborative import Popularity
from recsys.model.device import choose_device
from recsys.model.fusion import ndcg_of_ranks
from recsys.model.recent import EventLog
from recsys.model.recommender import Recommender
from recsys.settings import Settings, TrainingSettings
from recsys.snapshot.guard import has_forgotten
from recsys.snapshot.sequences import Sequences, microseconds
from recsys.snapshot.slates import Slates
from recsys.snapshot.targets import find_targets
from recsys.training.batching import UserBatches
from recsys.training.checkpoints import restore_weights, seed_everything, weights_of
from recsys.training.full import Fitted
from recsys.training.objective import LossWeights, Objective
from recsys.training.parallel import agree
from recsys.training.split import ValidationCases
from recsys.training.trainer import OnStep, Trainer, Validator, time_limit

WARMUP_SHARE = 0.1
"""Share of all steps in which the learning rate rises: there are few steps, from weights that are good."""
_SMALL_UPDATE_EVENTS = 1_000
"""Fresh events up to which batches have the set size; beyond, they grow with the events."""
_MOST_USERS = 64
"""Largest batch; where a larger one is wanted, the learning rate falls in proportion."""
_MAX_CASES = 300


def fit_micro(
    parent: Recommender,
    sequences: Sequences,
    held_out_from: datetime,
    settings: Settings,
    *,
    slates: Slates | None = None,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    on_step: OnStep | None = None,
) -> Fitted:
    """Update a copy of `parent` on the fresh events of a micro snapshot.

    The text encoder is frozen. Fresh events and replayed events are targets, and history is context. A new
    item starts with the id vector of its proxy. No fresh events are held back to choose an epoch: the number
    of epochs is fixed and the steps are small. Guard users are not trained on. If the gate would reject the
    weights as forgetting on them (`has_forgotten`), the parent's are kept. Only the last weights are tested:
    the first epoch forgets most and later ones make good for it.
    Popularity, collaborative filtering and what follows what count every fresh event. The appeal of a
    parent is counted anew.

    Parameters
    ----------
    parent
        The recommender to start from, on the catalogue that `sequences` refers to.
    sequences
        Events of all purposes. Fresh events from `held_out_from` on and fresh guard events are used for
        evaluation only.
    slates
        The latest lists that were shown before `held_out_from` to users who are not guard users, with those
        that the parent knows. None: appeal stays as it is.

    Raises
    ------
    NothingToDoError
        There is no fresh event to learn from.
    """
    start = time.monotonic()
    seed_everything(settings.training.seed)
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
    guard = sequences.purpose == code[Purpose.GUARD]
    target = fresh | (sequences.purpose == code[Purpose.REPLAY])
    weighted = replace(sequences, weight=np.where(target, sequences.weight, 0).astype(np.float32))
    trained = weighted.where(~held_out & ~guard).without_empty_users()
    items = np.unique(sequences.item_index[fresh])
    model.items.start_training(torch.from_numpy(items).to(model.device), model.proxies)

    if model.ages is not None:
        model.ages = model.ages.observed(sequences.where(fresh))
    validator = _validator(_cases(sequences, guard), model, sequences, settings)
    guard_users = len(set(validator.cases.histories.user_keys))
    ranks = validator.served_ranks(model)
    metrics = {"guard_users": guard_users, "parent_guard_ndcg": _ndcg(ranks, validator.k)}
    before = weights_of(model)
    trainer = _trainer(model, trained, training_settings(settings, int(fresh.sum())))
    trainer.on_step = on_step or trainer.on_step
    out_of_time = time_limit(settings.micro_update.time_budget_minutes, start)
    history, stopped = _epochs(trainer, out_of_time, report)
    learned = validator.served_ranks(model)
    parent_quality = agree(_quality(ranks))
    change = agree(_quality(learned) - parent_quality)
    epochs = len(history)
    if has_forgotten(parent_quality, change, guard_users, settings.gate):
        restore_weights(model, before)
        stopped += "; guard users got worse, so the parent's weights were kept"
        epochs, learned = 0, ranks
    metrics["guard_ndcg"] = _ndcg(learned, validator.k)
    _count_fresh(model, sequences, fresh)
    if slates is not None and model.appeal is not None:
        model.appeal = Appeal.fit(slates.unrequested(), len(model.catalogue))
    model.update_proxies()
    return Fitted(model.eval(), history, epochs, metrics, stopped)


def _epochs(
    trainer: Trainer, out_of_time: Callable[[], bool], report: Callable[[dict[str, Any]], None]
) -> tuple[list[dict[str, Any]], str]:
    """Train; return the losses of each epoch, and why training ended."""
    history: list[dict[str, Any]] = []
    for epoch in range(trainer.settings.epochs):
        began = time.monotonic()
        losses = trainer.train_epoch(epoch, out_of_time)
        history.append({"epoch": epoch + 1, **losses, "seconds": round(time.monotonic() - began, 3)})
        report(history[-1])
        if out_of_time():
            return history, "time budget spent"
    return history, "all epochs done"


def training_settings(settings: Settings, fresh_events: int) -> TrainingSettings:
    """Return the settings of the training loop in a micro-update: the text encoder is frozen.

    A large update would forget too much with many more steps than a small one. So it has larger batches, and
    where these cannot grow further, its steps are smaller: together they go no further.
    """
    micro = settings.micro_update
    wanted = micro.batch_size * max(1.0, fresh_events / _SMALL_UPDATE_EVENTS)
    users = min(wanted, max(_MOST_USERS, micro.batch_size))
    return settings.training.model_copy(
        update={
            "epochs": micro.epochs,
            "batch_size": round(users),
            "learning_rate": micro.learning_rate * users / wanted,
            "text_items_per_step": 0,
            # A micro-update has too few steps to accumulate gradients or to average weights.
            "gradient_accumulation": 1,
            "weight_averaging": 0.0,
        }
    )


def _trainer(model: Recommender, trained: Sequences, training: TrainingSettings) -> Trainer:
    counts = np.bincount(trained.item_index, minlength=len(model.catalogue)).astype(np.float32)
    likes, dislikes = (trained.sentiment > 0).any(), (trained.sentiment < 0).any()
    weights = LossWeights(
        liking=training.feedback_weight if likes and dislikes else 0.0,
        rating=training.rating_weight,
    )
    objective = Objective(model, weights, counts + model.popularity.counts, training)
    learned = np.isin(trained.purpose, [PURPOSES.index(Purpose.FRESH), PURPOSES.index(Purpose.REPLAY)])
    batches = UserBatches(
        trained, model.settings.max_events, training.batch_size, training.seed, learned=learned
    )
    return Trainer(model, objective, batches, training, warmup_share=WARMUP_SHARE)


def _cases(sequences: Sequences, wanted: NDArray[np.bool_]) -> ValidationCases:
    positions = np.flatnonzero(wanted & find_targets(sequences).chosen)
    if len(positions) > _MAX_CASES:
        positions = positions[np.linspace(0, len(positions) - 1, _MAX_CASES).astype(np.int64)]
    return ValidationCases.of(sequences, positions)


def _validator(
    cases: ValidationCases, model: Recommender, sequences: Sequences, settings: Settings
) -> Validator:
    """Return the validator of past events: with what was popular at their time, among items that existed."""
    if not len(cases) or model.ages is None:
        return Validator.build(cases, model, settings.evaluation.k, EventLog.of(sequences))
    catalogue = model.ages.dated(model.catalogue)
    return Validator.build(cases, model, settings.evaluation.k, EventLog.of(sequences), catalogue)


def _quality(ranks: NDArray[np.int64]) -> float:
    """Return NDCG without a cut-off, which shows small changes that NDCG@k does not."""
    return float((1.0 / np.log2(ranks + 1.0)).mean()) if len(ranks) else 0.0


def _ndcg(ranks: NDArray[np.int64], k: int) -> float:
    return float(ndcg_of_ranks(ranks, k).mean()) if len(ranks) else 0.0


def _count_fresh(model: Recommender, sequences: Sequences, fresh: NDArray[np.bool_]) -> None:
    """Add the fresh events to popularity, collaborative filtering and what follows what.

    A fresh event co-occurs with the user's earlier events, as far as the snapshot's histories reach back.
    """
    added = Popularity.fit(sequences.where(fresh), len(model.catalogue)).counts
    model.popularity = Popularity(model.popularity.counts + added)
    if model.recent is not None:
        model.recent = model.recent.counted(sequences.where(fresh))
    history = sequences.purpose == PURPOSES.index(Purpose.HISTORY)
    before, after = sequences.where(history), sequences.where(history | fresh)
    if model.collaborative is not None:
        penalty = model.settings.collaborative_penalty
        model.collaborative = model.collaborative.updated(before, after, penalty)
    if model.succession is not None:
        model.succession = model.succession.changed(before, after)
