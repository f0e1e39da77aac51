"""Compare a candidate with its opponent and the baselines on one snapshot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EvaluationError
from recsys.evaluation.liking import (
    Liking,
    LikingModel,
    evaluate_liking,
    held_out_opinions,
    load_liking,
    save_liking,
)
from recsys.evaluation.off_policy.compare import OffPolicyComparison, compare_policies
from recsys.evaluation.off_policy.log import SlateRecords
from recsys.evaluation.ranking.baselines import fit_baselines
from recsys.evaluation.ranking.cases import GuardBoundary, guard_cases, held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate
from recsys.evaluation.ranking.scorer import Scorer
from recsys.evaluation.ranking.slices import item_features, with_slices
from recsys.evaluation.report.document import write_report
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.settings import EvaluationSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.read import Snapshot
from recsys.snapshot.reference import TrainedThrough
from recsys.snapshot.sequences import Catalogue, Sequences, microseconds
from recsys.training.result import HISTORY_FILE

if TYPE_CHECKING:
    from recsys.model.recommender import Recommender

SlateReader = Callable[[Catalogue, datetime, datetime], SlateRecords]
"""Reads the slates shown between two moments, as `off_policy_log.read_slates` does."""

_HELD_OUT, _GUARD = "held_out", "guard"


@dataclass(frozen=True)
class OwnEventTypes:
    """A recommender that was trained before event types were added or removed reads those it knows."""

    recommender: "Recommender"
    event_types: EventTypes
    """Those that the histories refer to."""

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return scores [users, items]; events of types that the recommender does not know are left out."""
        return self.recommender.score(self._readable(histories))

    def liking(self, histories: Sequences, items: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return [users] log odds that each likes the one item."""
        import torch

        users = torch.from_numpy(self.recommender.user_vectors(self._readable(histories)))
        chosen = torch.from_numpy(self._item_vectors[items])
        device = self.recommender.device
        with torch.no_grad():
            logits = self.recommender.feedback(users.to(device), chosen.to(device))
        return np.asarray(logits.double().cpu().numpy())

    @cached_property
    def _item_vectors(self) -> NDArray[np.float32]:
        return self.recommender.item_vectors()

    def _readable(self, histories: Sequences) -> Sequences:
        own = self.recommender.event_types
        if own.names == self.event_types.names:
            return histories
        kind = own.lookup(self.event_types.names)[histories.event_type]
        return replace(histories, event_type=kind).where(kind >= 0)


@dataclass(frozen=True)
class Comparison:
    """Everything that the gate decides on.

    Attributes
    ----------
    held_out
        Held-out feedback ranked by all scorers.
    guard
        For micro-updates: the guard users' old behaviour.
    off_policy
        What candidate and champion would have earned on the slates that were shown; None when no logs
        were asked for.
    liking
        Calibration and AUC of the liking head, by scorer.
    """

    held_out: Evaluation
    guard: Evaluation | None
    off_policy: OffPolicyComparison | None = None
    liking: dict[str, Liking] = field(default_factory=dict)

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those there are."""
        return [evaluation for evaluation in (self.held_out, self.guard) if evaluation is not None]

    def save(self, folder: Path) -> None:
        """Write all of it below the folder; what marks it complete comes last."""
        if self.guard is not None:
            self.guard.save(folder / _GUARD)
        if self.off_policy is not None:
            self.off_policy.save(folder)
        save_liking(self.liking, folder)
        self.held_out.save(folder / _HELD_OUT)

    @classmethod
    def load(cls, folder: Path) -> "Comparison":
        """Read what `save` wrote; raise EvaluationError when it is not complete."""
        guard = folder / _GUARD
        return cls(
            Evaluation.load(folder / _HELD_OUT),
            Evaluation.load(guard) if guard.is_dir() else None,
            OffPolicyComparison.load(folder),
            load_liking(folder),
        )


def compare_candidate(
    snapshot: Snapshot,
    candidate: Path,
    opponent: Path | None,
    opponent_version: str | None,
    settings: EvaluationSettings,
    folder: Path,
    slates: SlateReader | None = None,
    user_attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Evaluate a candidate's checkpoint and save the result.

    When no event is left that neither model has trained on, the comparison says so
    (`held_out.impossible`), for the gate to hold the candidate with this reason.

    Parameters
    ----------
    snapshot
        The snapshot that the candidate was trained on; its held-out end is evaluated.
    candidate, opponent
        Checkpoint folders; no opponent for a first model.
    folder
        Where the evaluation, its report and its plots are written.
    slates
        Reads logged slates for off-policy evaluation; only those are asked for that were shown after
        what the models have trained on.
    user_attributes
        By user key, for slices.
    """
    from recsys.model.checkpoint import load_recommender

    catalogue, sequences = snapshot.catalogue(), snapshot.sequences()
    folders = {CANDIDATE: candidate} | ({} if opponent is None else {CHAMPION: opponent})
    since, guard_boundary = _untrained_since(list(folders.values()))
    scorers: dict[str, Scorer] = {
        name: OwnEventTypes(load_recommender(checkpoint).with_catalogue(catalogue), snapshot.event_types())
        for name, checkpoint in folders.items()
    }
    baselines: dict[str, Scorer] = {}
    if snapshot.manifest.kind == "full":
        baselines = fit_baselines(sequences, catalogue, snapshot.held_out_from, settings)
    comparison = compare_scorers(
        scorers,
        baselines,
        sequences,
        catalogue,
        since,
        settings,
        opponent_version=opponent_version,
        micro=snapshot.manifest.kind == "micro",
        guard_boundary=guard_boundary,
        slates=slates,
        user_attributes=user_attributes,
    )
    comparison.save(folder)
    write_report(folder, comparison, settings, candidate.parent / HISTORY_FILE)
    return comparison


def compare_scorers(
    scorers: Mapping[str, Scorer],
    baselines: Mapping[str, Scorer],
    sequences: Sequences,
    catalogue: Catalogue,
    since: datetime,
    settings: EvaluationSettings,
    *,
    opponent_version: str | None = None,
    micro: bool = False,
    guard_boundary: GuardBoundary | None = None,
    slates: SlateReader | None = None,
    user_attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Compare models on the events from `since` on; see `compare_candidate`.

    Parameters
    ----------
    scorers
        `CANDIDATE` and, if there is one, `CHAMPION`.
    baselines
        Ranked beside them on the held-out events only.
    micro
        Measure forgetting on guard users, too.
    """
    everybody = {**scorers, **baselines}
    try:
        cases = held_out_cases(sequences, catalogue, since, settings, guard=guard_boundary)
    except EvaluationError as error:
        return Comparison(
            Evaluation.of_nothing(settings.k, tuple(everybody), str(error), opponent_version), None
        )
    cases = with_slices(cases, catalogue, settings, user_attributes)
    features = item_features(catalogue)
    held_out = evaluate(everybody, cases, settings, opponent_version, features=features)
    guarded = guard_cases(sequences, catalogue, settings) if micro else None
    guard = None
    if guarded is not None:
        guard = evaluate(scorers, guarded, settings, opponent_version, features=features)
    off_policy = None
    if slates is not None and settings.off_policy_days > 0:
        until = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            microseconds=int(sequences.occurred_at.max()) + 1
        )
        first = max(since, until - timedelta(days=settings.off_policy_days))
        records = slates(catalogue, first, until)
        off_policy = compare_policies(
            records, scorers, sequences, catalogue.available, settings, CANDIDATE, CHAMPION
        )
    return Comparison(held_out, guard, off_policy, _liking(scorers, sequences, since))


def _liking(scorers: Mapping[str, Scorer], sequences: Sequences, since: datetime) -> dict[str, Liking]:
    opinions = held_out_opinions(sequences, microseconds(since))
    found = {
        name: evaluate_liking(scorer, sequences, opinions)
        for name, scorer in scorers.items()
        if isinstance(scorer, LikingModel)
    }
    return {name: liking for name, liking in found.items() if liking is not None}


def _untrained_since(checkpoints: list[Path]) -> tuple[datetime, GuardBoundary | None]:
    """Return from when on none of the models has trained on an event: of anybody, and of guard users."""
    from recsys.model.checkpoint import read_manifest

    manifests = [read_manifest(checkpoint) for checkpoint in checkpoints]
    known = [TrainedThrough.from_dict(manifest["trained_through"]) for manifest in manifests]
    latest = max(through.occurred_before for through in known)
    updates = [manifest for manifest in manifests if "guard_trained_through" in manifest]
    if not updates:
        return latest, None
    # A chain of micro-updates knows no more of guard users than the full fine-tune it started from.
    of_guard = [
        TrainedThrough.from_dict(manifest.get("guard_trained_through", manifest["trained_through"]))
        for manifest in manifests
    ]
    share = min(manifest["guard_share"] for manifest in updates)
    return latest, GuardBoundary(max(through.occurred_before for through in of_guard), share)
