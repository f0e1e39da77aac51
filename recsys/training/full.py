"""The full fine-tune: from a pre-trained text encoder and all feedback to a recommender."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys.errors import TrainingError
from recsys.model.appeal import Appeal
from recsys.model.device import choose_device
from recsys.model.recommender import Recommender
from recsys.model.text_cache import text_digest
from recsys.settings import ModelSettings, Settings, TrainingSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences, parts_of
from recsys.snapshot.slates import Slates
from recsys.training.answered_requests import add_answered_requests
from recsys.training.batching import Batches, PartBatches, UserBatches
from recsys.training.checkpoints import (
    RunFolder,
    RunState,
    restore_weights,
    seed_everything,
    weights_of,
)
from recsys.training.comment_texts import with_phrases_as_text
from recsys.training.comments import fit_comment_reader, latest_opinions
from recsys.training.data import TrainingData, read_comments, training_data
from recsys.training.objective import LossWeights, Objective
from recsys.training.other_parts import fit_closed_form, fit_other_parts
from recsys.training.parallel import agree, barrier, is_first, is_first_here
from recsys.training.split import Split
from recsys.training.trainer import WARMUP_SHARE, OnStep, Trainer, Validator, time_limit

LATEST_LEARNING_RATE = 0.3
"""Peak learning rate of the pass over the latest events, a share of that before: the weights of the parts,
which are fitted before it, must still hold after it."""
LATEST_WARMUP_SHARE = 0.1
"""Share of its steps in which the learning rate rises, as in a micro-update: there are few."""

_log = logging.getLogger(__name__)


@dataclass
class Fitted:
    """A trained recommender and how it was trained.

    Attributes
    ----------
    model
        The recommender with the best weights.
    history
        Losses, validation metric, learning rate and seconds of each epoch.
    best_epoch
        Epoch of the weights, from 1.
    metrics
        Metrics of the run by name.
    stopped_because
        Why training ended, for people.
    """

    model: Recommender
    history: list[dict[str, Any]]
    best_epoch: int
    metrics: dict[str, float]
    stopped_because: str


def fit_full(
    catalogue: Catalogue,
    event_types: EventTypes,
    sequences: Sequences | Sequence[Sequences],
    settings: Settings,
    output: Path,
    *,
    split: Split | None = None,
    unseen_share: float = 0.0,
    slates: Slates | None = None,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    on_step: OnStep | None = None,
) -> Fitted:
    """Train on all events of `sequences`; the caller has removed the held-out events.

    Parameters
    ----------
    sequences
        All users, or parts with some of the users that are loaded one at a time (`Shards`).
    output
        Folder of the run's state. A run that was killed resumes after its last complete epoch.
    split
        Validation cases, if all users come in one part. Default: the latest events of some users
        (`split_validation`).
    unseen_share
        Share of the users whom the default split does not validate on, see `are_unseen`.
    slates
        Lists that were shown, as `sequences` without the held-out part.
    report
        Called after each epoch with its losses, validation metric, learning rate and seconds.
    on_step
        Called after each training step; see `OnStep`.

    Raises
    ------
    TrainingError
        There is nothing to learn from, or the loss is not a finite number.
    """
    training = settings.training
    start = time.monotonic()
    device = choose_device(training.device)
    seed_everything(training.seed)
    parts = parts_of(sequences)
    if not any(part.events for part in parts):
        raise TrainingError("there is no feedback to train on before the held-out part; wait for more")
    model = _build(with_phrases_as_text(catalogue, parts), event_types, settings, device)
    # The digests are those of the catalogue's own texts. So a catalogue in which they have not changed keeps
    # the vectors, and no checkpoint holds what people wrote.
    model.text_digests = [text_digest(text) for text in catalogue.texts]
    changed = sum(text != own for text, own in zip(model.catalogue.texts, catalogue.texts, strict=True))
    if training.compile and device.type == "cuda":
        model.text_encoder().compile_layers()
    opinions = latest_opinions(parts, event_types, training.max_comments)
    comment_metrics = fit_comment_reader(
        model.comments, opinions, event_types, max_comments=training.max_comments, seed=training.seed
    )
    parts = read_comments(model, parts)
    split = None if split is None else split.with_events_read(model.read_comments)
    data = training_data(parts, len(catalogue), seed=training.seed, split=split, unseen_share=unseen_share)
    model.items.trained.copy_(torch.from_numpy(data.counts > 0))
    trainer = _trainer(model, data, training)
    trainer.on_step = on_step or trainer.on_step
    _say_text_training(trainer)
    validator = Validator(data.cases, data.known_items, settings.evaluation.k)
    folder = RunFolder(output / "state")
    fingerprint = _fingerprint(settings, parts, model)
    out_of_time = time_limit(training.time_budget_minutes, start)
    state, stopped = _epochs(trainer, validator, folder, report, out_of_time, fingerprint)
    unrequested = None if slates is None else slates.unrequested()
    metrics = comment_metrics | fit_other_parts(model, data, settings, unrequested)
    if data.everything is not data.train:
        _learn_latest(model, data, training, on_step)
    fit_closed_form(model, parts, with_succession=model.succession is not None)
    if unrequested is not None and model.appeal is not None:
        model.appeal = Appeal.fit(unrequested, len(catalogue))
    if training.request_steps:
        metrics |= add_answered_requests(model, slates, settings.evaluation.k)
    metrics["validation_ndcg"] = state.best_score
    metrics["texts_from_comments"] = float(changed)
    metrics["text_interval"] = float(trainer.text_interval if trainer.text_parameters else 0)
    return Fitted(model.eval(), state.history, state.best_epoch, metrics, stopped)


def _build(
    catalogue: Catalogue, event_types: EventTypes, settings: Settings, device: torch.device
) -> Recommender:
    def progress(done: int, total: int) -> None:
        if is_first_here():
            _log.info("encoded %d of %d item texts", done, total)

    folder = settings.runs / "text-cache"
    return Recommender.build(
        settings.model, catalogue, event_types, device=device, cache_folder=folder, progress=progress
    )


def _trainer(
    model: Recommender, data: TrainingData, training: TrainingSettings, warmup_share: float = WARMUP_SHARE
) -> Trainer:
    weights = LossWeights(
        liking=training.feedback_weight if data.has_likes_and_dislikes else 0.0, rating=training.rating_weight
    )
    objective = Objective(model, weights, data.counts, training)
    batches = _batches(data.train, model.settings, training)
    return Trainer(model, objective, batches, training, warmup_share=warmup_share)


def _learn_latest(
    model: Recommender, data: TrainingData, training: TrainingSettings, on_step: OnStep | None
) -> None:
    """Train for one more epoch on all events, the latest included, which validation has held back.

    Without it, a model would know nothing of the latest days. The text encoder is frozen. An item that was
    first met in these days starts with the id vector of its proxy.
    """
    once = training.model_copy(
        update={
            "epochs": 1,
            "learning_rate": LATEST_LEARNING_RATE * training.learning_rate,
            "text_items_per_step": 0,
        }
    )
    known = torch.from_numpy(np.flatnonzero(data.known_items)).to(model.device)
    model.items.start_training(known, model.proxies)
    all_events = replace(data, train=data.everything, counts=data.all_counts)
    trainer = _trainer(model, all_events, once, LATEST_WARMUP_SHARE)
    trainer.on_step = on_step or trainer.on_step
    seed_everything(training.seed * 10_007 + training.epochs * 101 + trainer.rank)
    losses = trainer.train_epoch(0)
    with trainer.averaged():
        weights = weights_of(model)
    restore_weights(model, weights)
    if is_first():
        _log.info("the latest feedback was learned in one more epoch: next item %.3f", losses["next_item"])


def _say_text_training(trainer: Trainer) -> None:
    settings, mode = trainer.settings, trainer.model.settings.fine_tuning
    if not is_first_here():
        return
    if not trainer.text_parameters:
        _log.info("the text encoder is not trained (%s)", mode)
        return
    epochs = min(settings.text_epochs, settings.epochs)
    texts = -(-trainer.steps_per_epoch // trainer.text_interval) * epochs * settings.text_items_per_step
    _log.info(
        "text training (%s): at most %d texts with gradient in %d epochs, in one of %d steps; "
        "the catalogue has %d items, and RECSYS_TRAINING__TEXT_PASSES is %g",
        mode, texts, epochs, trainer.text_interval, len(trainer.model.catalogue), settings.text_passes,
    )  # fmt: skip


def _batches(train: Sequence[Sequences], model: ModelSettings, training: TrainingSettings) -> Batches:
    arguments = model.max_events, training.batch_size, training.seed
    return UserBatches(train[0], *arguments) if len(train) == 1 else PartBatches(train, *arguments)


def _epochs(
    trainer: Trainer,
    validator: Validator,
    folder: RunFolder,
    report: Callable[[dict[str, Any]], None],
    out_of_time: Callable[[], bool],
    fingerprint: str,
) -> tuple[RunState, str]:
    """Train until validation stops improving, or epochs or time run out; restore the best weights."""
    training = trainer.settings
    state = folder.resume(trainer, fingerprint)
    for row in state.history:
        report(row)
    stopped = "all epochs done"
    while state.epoch < training.epochs:
        if state.epoch - state.best_epoch >= training.patience and state.epoch:
            stopped = f"no gain in {training.patience} epochs"
            break
        if state.epoch and out_of_time():
            stopped = "time budget spent"
            break
        # Seeded by epoch, so that a resumed run draws the same dropout as an uninterrupted one.
        seed_everything(training.seed * 10_007 + state.epoch * 101 + trainer.rank)
        began = time.monotonic()
        losses = trainer.train_epoch(state.epoch, out_of_time if state.epoch else lambda: False)
        trained = time.monotonic()
        state.epoch += 1
        state.step = trainer.step
        with trainer.averaged():
            score = agree(validator.ndcg(trainer.model))
            if score > state.best_score or not len(validator.cases):
                state.best_epoch, state.best_score = state.epoch, score
                if is_first():
                    folder.save_best(trainer.model)
        row = {
            "epoch": state.epoch,
            **losses,
            "validation_ndcg": score,
            "training_seconds": round(trained - began, 3),
            "seconds": round(time.monotonic() - began, 3),
        }
        state.history.append(row)
        state.seconds += row["seconds"]
        if is_first():
            folder.save_last(trainer, state)
        report(row)
        barrier()
    folder.restore_best(trainer.model)
    return state, stopped


def _fingerprint(settings: Settings, parts: Sequence[Sequences], model: Recommender) -> str:
    # An interrupted run does not resume in a release that holds back other events or keeps another state.
    digest = hashlib.sha256(b"validation is later than training, id vectors are updated by rows")
    # An interrupted run does not resume in a release whose model has other weights.
    digest.update(json.dumps({name: list(w.shape) for name, w in model.named_parameters()}).encode())
    digest.update(json.dumps(settings.model.model_dump(mode="json"), sort_keys=True).encode())
    digest.update(json.dumps(settings.training.model_dump(mode="json"), sort_keys=True).encode())
    digest.update("".join(map(text_digest, model.catalogue.texts)).encode())
    for part in parts:
        for column in (part.offsets, part.item_index, part.occurred_at, part.value):
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
