"""Compare a candidate with the champion and the baselines on one snapshot."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recsys.columns import PURPOSES, Purpose
from recsys.errors import EvaluationError
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.earlier import earlier_name
from recsys.evaluation.liking import Liking, LikingModel, evaluate_liking, held_out_opinions
from recsys.evaluation.off_policy.compare import compare_policies
from recsys.evaluation.off_policy.log import SlateRecords
from recsys.evaluation.ranking.baselines import fit_baselines
from recsys.evaluation.ranking.cases import GuardBoundary, guard_cases, held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate
from recsys.evaluation.ranking.scorer import CountingScorer, Scorer
from recsys.evaluation.ranking.slices import item_features, with_slices
from recsys.evaluation.report.document import write_report
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.settings import EvaluationSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.read import Snapshot
from recsys.snapshot.reference import TrainedThrough
from recsys.snapshot.sequences import Catalogue, Sequences, microseconds, parts_of
from recsys.training.result import HISTORY_FILE

logger = logging.getLogger(__name__)

SlateReader = Callable[[Catalogue, datetime, datetime], SlateRecords]
"""Reads the slates shown between two moments, as `recsys.evaluation.off_policy.log.read_slates` does."""


def compare_candidate(
    snapshot: Snapshot,
    events: Sequence[Sequences],
    candidate: Path,
    opponent: Path | None,
    opponent_version: str | None,
    settings: EvaluationSettings,
    folder: Path,
    slates: SlateReader | None = None,
    user_attributes: Mapping[str, Mapping[str, Any]] | None = None,
    earlier: Mapping[int, Path] | None = None,
) -> Comparison:
    """Evaluate a candidate's checkpoint and save the result.

    When both models together have trained on every event, `held_out.impossible` gives the reason, and the
    gate holds the candidate.

    Parameters
    ----------
    snapshot
        The snapshot that the candidate was trained on; its held-out events are evaluated.
    events
        Its events, in parts with some of the users; see `recsys.training.data.events_in_parts`. One part is
        loaded at a time, and the result is the same however they are divided, as long as
        `RECSYS_MODEL__COLLABORATIVE_PAIRS` has room for all pairs of items.
    candidate, opponent
        Checkpoint folders; the first model has no opponent.
    folder
        Receives the evaluation, its report and its plots.
    slates
        Reads logged slates for off-policy evaluation; it is asked only for slates shown after the events
        that the models have trained on.
    user_attributes
        Attributes of users by user key, for slices.
    earlier
        Checkpoint folders of earlier champions by their age in days. They are ranked on the held-out events,
        unless they have trained on some of them.
    """
    # Imports torch, which those who only compare scorers do not need.
    from recsys.evaluation.evaluated_recommender import EvaluatedRecommender
    from recsys.model.checkpoint import load_recommender
    from recsys.model.recent import EventLog

    catalogue, log = snapshot.catalogue(), EventLog.of(events)
    folders = {CANDIDATE: candidate} | ({} if opponent is None else {CHAMPION: opponent})
    since, guard_boundary = _untrained_since(list(folders.values()))

    def scorer(checkpoint: Path) -> EvaluatedRecommender:
        return EvaluatedRecommender(
            load_recommender(checkpoint).with_catalogue(catalogue), snapshot.event_types(), log
        )

    scorers = {name: scorer(checkpoint) for name, checkpoint in folders.items()}
    past = None
    if snapshot.manifest.kind == "micro":
        ages = scorers[CANDIDATE].recommender.ages
        past = catalogue if ages is None else ages.dated(catalogue)
    baselines: dict[str, Scorer] = {}
    if snapshot.manifest.kind == "full":
        baselines = fit_baselines(events, catalogue, snapshot.held_out_from, settings)
    for days, checkpoint in (earlier or {}).items():
        if _untrained_since([*folders.values(), checkpoint]) == (since, guard_boundary):
            baselines[earlier_name(days)] = scorer(checkpoint)
        else:
            logger.info("the champion of %d days ago has trained on held-out events and is left out", days)
    comparison = compare_scorers(
        scorers,
        baselines,
        events,
        catalogue,
        since,
        settings,
        opponent_version=opponent_version,
        past=past,
        guard_boundary=guard_boundary,
        slates=slates,
        user_attributes=user_attributes,
        event_types=snapshot.event_types(),
    )
    comparison.save(folder)
    write_report(folder, comparison, settings, candidate.parent / HISTORY_FILE)
    return comparison


def compare_scorers(
    scorers: Mapping[str, Scorer],
    baselines: Mapping[str, Scorer],
    sequences: Sequences | Sequence[Sequences],
    catalogue: Catalogue,
    since: datetime,
    settings: EvaluationSettings,
    *,
    opponent_version: str | None = None,
    past: Catalogue | None = None,
    guard_boundary: GuardBoundary | None = None,
    slates: SlateReader | None = None,
    user_attributes: Mapping[str, Mapping[str, Any]] | None = None,
    event_types: EventTypes | None = None,
) -> Comparison:
    """Compare scorers on the events from `since` on; see `compare_candidate`.

    Parameters
    ----------
    scorers
        `CANDIDATE` and, if there is one, `CHAMPION`.
    baselines
        Further scorers, ranked on the held-out events only.
    sequences
        Events of all users, or parts with some of the users.
    past
        Also measure forgetting on guard users, with these times at which items were available.
    event_types
        Event types of the sequences, for targets and slices by type.
    """
    all_scorers = {**scorers, **baselines}
    parts = parts_of(sequences)
    try:
        cases = held_out_cases(
            parts, catalogue, since, settings, guard=guard_boundary, event_types=event_types
        )
    except EvaluationError as error:
        return Comparison(
            Evaluation.of_nothing(settings.k, tuple(all_scorers), str(error), opponent_version), None
        )
    cases = with_slices(cases, catalogue, settings, user_attributes, event_types)
    features = item_features(catalogue)
    held_out = evaluate(all_scorers, cases, settings, opponent_version, features=features)
    guarded = None if past is None else guard_cases(parts, past, settings, event_types=event_types)
    guard = None
    if guarded is not None:
        known = guarded.sequences.where(guarded.sequences.purpose == PURPOSES.index(Purpose.GUARD))
        of_others = {
            name: scorer.without_successions_of(known) if isinstance(scorer, CountingScorer) else scorer
            for name, scorer in scorers.items()
        }
        guard = evaluate(of_others, guarded, settings, opponent_version, features=features)
    off_policy = None
    if slates is not None and settings.off_policy_days > 0:
        latest = max(int(part.occurred_at.max(initial=0)) for part in parts)
        until = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=latest + 1)
        first = max(since, until - timedelta(days=settings.off_policy_days))
        records = slates(catalogue, first, until)
        off_policy = compare_policies(records, scorers, parts, catalogue, settings, CANDIDATE, CHAMPION)
    return Comparison(held_out, guard, off_policy, _liking(scorers, parts, since))


def _liking(scorers: Mapping[str, Scorer], parts: Sequence[Sequences], since: datetime) -> dict[str, Liking]:
    models = {name: scorer for name, scorer in scorers.items() if isinstance(scorer, LikingModel)}
    if not models:
        return {}
    sequences, opinions = held_out_opinions(parts, microseconds(since))
    found = {name: evaluate_liking(model, sequences, opinions) for name, model in models.items()}
    return {name: liking for name, liking in found.items() if liking is not None}


def _untrained_since(checkpoints: list[Path]) -> tuple[datetime, GuardBoundary | None]:
    """Return when the events start that no model has trained on: of all users, and of guard users."""
    from recsys.model.checkpoint import read_manifest

    manifests = [read_manifest(checkpoint) for checkpoint in checkpoints]
    known = [TrainedThrough(**manifest["trained_through"]) for manifest in manifests]
    latest = max(through.occurred_before for through in known)
    updates = [manifest for manifest in manifests if "guard_trained_through" in manifest]
    if not updates:
        return latest, None
    # Micro-updates do not train on guard users: the full fine-tune that they start from sets the boundary.
    of_guard = [
        TrainedThrough(**manifest.get("guard_trained_through", manifest["trained_through"]))
        for manifest in manifests
    ]
    share = min(manifest["guard_share"] for manifest in updates)
    return latest, GuardBoundary(max(through.occurred_before for through in of_guard), share)
