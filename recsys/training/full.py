"""The full fine-tune: from a pre-trained text encoder and all feedback to a recommender."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import TrainingError
from recsys.model.collaborative import DISLIKE_SIGN, EASE, NEIGHBOURS, Popularity
from recsys.model.device import choose_device
from recsys.model.fusion import (
    COLLABORATIVE,
    LIKING,
    NEURAL,
    REQUEST,
    REQUEST_WEIGHTS,
    fit_fusion,
    ndcg_of_ranks,
    target_ranks,
)
from recsys.model.item_age import ItemAges
from recsys.model.recent import HALF_LIVES_DAYS, EventLog, RecentPopularity
from recsys.model.recommender import Recommender
from recsys.model.repeats import Repeats, repeat_features
from recsys.model.text_cache import text_digest
from recsys.settings import ModelSettings, Settings, TrainingSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences, parts_of
from recsys.training.batching import Batches, PartBatches, Split, UserBatches, ValidationCases
from recsys.training.checkpoints import RunFolder, RunState, seed_everything
from recsys.training.comments import fit_comment_reader, latest_opinions
from recsys.training.data import TrainingData, read_comments, training_data
from recsys.training.objective import LossWeights, Objective
from recsys.training.parallel import agree, barrier, is_first
from recsys.training.requests import PhraseTable, fit_requests
from recsys.training.trainer import OnStep, Trainer, Validator, time_limit

_log = logging.getLogger(__name__)

MIN_LIKING = 0.05
MIN_COLLABORATIVE = 0.05
"""Smallest weights in the fusion, even if validation shows no gain: a dislike must have an effect."""
_FUSION_BYTES = 1 << 30


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
    model = _build(catalogue, event_types, settings, device)
    if training.compile and device.type == "cuda":
        model.text_encoder().compile_layers()
    opinions = latest_opinions(parts, event_types, training.max_comments)
    comment_metrics = fit_comment_reader(
        model.comments, opinions, event_types, max_comments=training.max_comments, seed=training.seed
    )
    parts = read_comments(model, parts)
    split = None if split is None else split.with_events_read(model.read_comments)
    data = training_data(parts, len(catalogue), seed=training.seed, split=split)
    model.items.trained.copy_(torch.from_numpy(data.counts > 0))
    trainer = _trainer(model, data, training)
    trainer.on_step = on_step or trainer.on_step
    validator = Validator.build(data.cases, model, settings.evaluation.k)
    folder = RunFolder(output / "state")
    fingerprint = _fingerprint(settings, parts, catalogue)
    out_of_time = time_limit(training.time_budget_minutes, start)
    state, stopped = _epochs(trainer, validator, folder, report, out_of_time, fingerprint)
    metrics = comment_metrics | _fit_other_parts(model, parts, data, settings)
    metrics["validation_ndcg"] = state.best_score
    return Fitted(model.eval(), state.history, state.best_epoch, metrics, stopped)


def _build(
    catalogue: Catalogue, event_types: EventTypes, settings: Settings, device: torch.device
) -> Recommender:
    def progress(done: int, total: int) -> None:
        if is_first():
            _log.info("encoded %d of %d item texts", done, total)

    folder = settings.runs / "text-cache"
    return Recommender.build(
        settings.model, catalogue, event_types, device=device, cache_folder=folder, progress=progress
    )


def _trainer(model: Recommender, data: TrainingData, training: TrainingSettings) -> Trainer:
    weights = LossWeights(
        liking=training.feedback_weight if data.has_likes_and_dislikes else 0.0, rating=training.rating_weight
    )
    objective = Objective(model, weights, data.counts, training)
    return Trainer(model, objective, _batches(data.train, model.settings, training), training)


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


def _fit_other_parts(
    model: Recommender, everything: Sequence[Sequences], data: TrainingData, settings: Settings
) -> dict[str, float]:
    """Fit requests and fusion, using validation cases; then fit the closed-form parts to all events."""
    n_items = len(model.catalogue)
    fit_closed_form(model, data.train)
    metrics = fit_requests(model, settings.training.request_steps, settings.training.seed)
    cases = limited(data.cases, n_items)
    if len(cases):
        excluded = cases.excluded(n_items, model.items.trained.cpu().numpy(), model.catalogue)
        log = EventLog.of(data.train)
        model.recent = choose_half_life(cases, log, excluded, settings.evaluation.k)
        parts = model.parts(cases.histories, later=log)
        repeats = repeat_features(cases.histories, n_items)
        least = {LIKING: MIN_LIKING, COLLABORATIVE: MIN_COLLABORATIVE}
        if not data.has_likes_and_dislikes:
            parts.pop(LIKING)
            least.pop(LIKING)
        model.fusion, metrics["validation_ndcg_fused"] = fit_fusion(
            parts,
            cases.targets,
            excluded,
            cases.histories.user_keys,
            least=least,
            repeats=repeats,
            k=settings.evaluation.k,
        )
        metrics |= _fit_request_fusion(model, cases, parts, repeats, excluded, settings)
    fit_closed_form(model, everything)
    weights = {f"fusion_{name}": weight for name, weight in model.fusion.weights.items() if name != NEURAL}
    return metrics | weights


def _fit_request_fusion(
    model: Recommender,
    cases: ValidationCases,
    parts: Mapping[str, NDArray[np.float32]],
    repeats: Repeats,
    excluded: NDArray[np.bool_],
    settings: Settings,
) -> dict[str, float]:
    """Fit the fusion for users with a request.

    Each case requests one of its target's attribute values, matched as if no item had that value.
    """
    if model.request_vectors is None or not settings.training.request_steps:
        return {}
    table = PhraseTable(model.requests, model.catalogue)
    phrases = table.sample_phrases(cases.targets, settings.training.seed)
    rows = np.flatnonzero(phrases >= 0)
    if not len(rows):
        return {}
    matches = table.match(model.requests, phrases[rows], model.request_vectors).cpu().numpy()
    model.request_fusion, ndcg = fit_fusion(
        {name: part[rows] for name, part in parts.items()} | {REQUEST: matches},
        cases.targets[rows], excluded[rows], cases.histories.user_keys[rows],
        prior=REQUEST_WEIGHTS, least={LIKING: MIN_LIKING} if LIKING in parts else {},
        repeats=repeats.take(rows), k=settings.evaluation.k,
    )  # fmt: skip
    return {"validation_ndcg_with_request": ndcg, "fusion_request": model.request_fusion.weights[REQUEST]}


def choose_half_life(
    cases: ValidationCases, log: EventLog, excluded: NDArray[np.bool_], k: int
) -> RecentPopularity:
    """Return recent popularity, still without counts, of the half-life that ranks the targets best."""

    def quality(recent: RecentPopularity) -> float:
        scores = recent.scores_at(log, cases.histories.moments)
        return float(ndcg_of_ranks(target_ranks(scores, cases.targets, excluded), k).mean())

    nothing = np.zeros(excluded.shape[1])
    return max((RecentPopularity(nothing, 0, days) for days in HALF_LIVES_DAYS), key=quality)


def fit_closed_form(model: Recommender, sequences: Sequence[Sequences]) -> None:
    """Fit popularity and ages, and collaborative filtering if the catalogue is not too large."""
    n_items = len(model.catalogue)
    model.popularity = Popularity.fit(sequences, n_items)
    model.ages = ItemAges.fit(sequences, n_items)
    if model.recent is not None:
        model.recent = RecentPopularity.fit(sequences, n_items, model.recent.half_life_days)
    model.update_proxies()
    if n_items > model.settings.collaborative_max_items:
        _log.info(
            "collaborative filtering is left out: %d items, RECSYS_MODEL__COLLABORATIVE_MAX_ITEMS is %d",
            n_items,
            model.settings.collaborative_max_items,
        )
        model.collaborative = None
        return
    model.collaborative = EASE.fit(
        sequences,
        n_items,
        model.settings.collaborative_penalty,
        neighbours=NEIGHBOURS,
        negative=DISLIKE_SIGN,
        keep_counts=True,
    )


def limited(cases: ValidationCases, n_items: int) -> ValidationCases:
    """Return as many cases as can be scored on all items within the memory limit."""
    most = max(50, _FUSION_BYTES // (n_items * 4 * 10))
    if len(cases) <= most:
        return cases
    chosen = np.linspace(0, len(cases) - 1, most).astype(np.int64)
    return cases.take(chosen)


def _fingerprint(settings: Settings, parts: Sequence[Sequences], catalogue: Catalogue) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps(settings.model.model_dump(mode="json"), sort_keys=True).encode())
    digest.update(json.dumps(settings.training.model_dump(mode="json"), sort_keys=True).encode())
    digest.update("".join(map(text_digest, catalogue.texts)).encode())
    for part in parts:
        for column in (part.offsets, part.item_index, part.occurred_at, part.value):
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
