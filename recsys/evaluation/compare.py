"""Compare a candidate with its opponent and the baselines on one snapshot."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EvaluationError, NothingToDoError
from recsys.evaluation.baselines import fit_baselines
from recsys.evaluation.cases import GuardBoundary, guard_cases, held_out_cases
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.report import write_report
from recsys.evaluation.result import CANDIDATE, CHAMPION, Evaluation
from recsys.evaluation.scorer import Scorer
from recsys.settings import EvaluationSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.read import Snapshot
from recsys.snapshot.reference import TrainedThrough
from recsys.snapshot.sequences import Sequences
from recsys.training.result import HISTORY_FILE

if TYPE_CHECKING:
    from recsys.model.recommender import Recommender

_HELD_OUT, _GUARD = "held_out", "guard"


@dataclass(frozen=True)
class OwnEventTypes:
    """A recommender that was trained before event types were added or removed reads those it knows."""

    recommender: "Recommender"
    event_types: EventTypes
    """Those that the histories refer to."""

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return scores [users, items]; events of types that the recommender does not know are left out."""
        own = self.recommender.event_types
        if own.names != self.event_types.names:
            kind = own.lookup(self.event_types.names)[histories.event_type]
            histories = replace(histories, event_type=kind).where(kind >= 0)
        return self.recommender.score(histories)


@dataclass(frozen=True)
class Comparison:
    """The evaluation on held-out feedback, and for micro-updates that on guard users."""

    held_out: Evaluation
    guard: Evaluation | None

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those there are."""
        return [evaluation for evaluation in (self.held_out, self.guard) if evaluation is not None]

    def save(self, folder: Path) -> None:
        """Write both below the folder."""
        if self.guard is not None:
            self.guard.save(folder / _GUARD)
        self.held_out.save(folder / _HELD_OUT)

    @classmethod
    def load(cls, folder: Path) -> "Comparison":
        """Read what `save` wrote; raise EvaluationError when it is not complete."""
        guard = folder / _GUARD
        return cls(Evaluation.load(folder / _HELD_OUT), Evaluation.load(guard) if guard.is_dir() else None)


def compare_candidate(
    snapshot: Snapshot,
    candidate: Path,
    opponent: Path | None,
    opponent_version: str | None,
    settings: EvaluationSettings,
    folder: Path,
) -> Comparison:
    """Evaluate a candidate's checkpoint and save the result.

    Parameters
    ----------
    snapshot
        The snapshot that the candidate was trained on; its held-out end is evaluated.
    candidate, opponent
        Checkpoint folders; no opponent for a first model.
    folder
        Where the evaluation, its report and its plots are written.

    Raises
    ------
    NothingToDoError
        When no event is left that neither model has trained on.
    """
    from recsys.model.recommender import Recommender

    catalogue, sequences = snapshot.catalogue(), snapshot.sequences()
    folders = {CANDIDATE: candidate} | ({} if opponent is None else {CHAMPION: opponent})
    since, guard_boundary = _untrained_since(list(folders.values()))
    scorers: dict[str, Scorer] = {
        name: OwnEventTypes(Recommender.load(checkpoint).with_catalogue(catalogue), snapshot.event_types())
        for name, checkpoint in folders.items()
    }
    baselines: dict[str, Scorer] = {}
    if snapshot.manifest.kind == "full":
        baselines = fit_baselines(sequences, catalogue, snapshot.held_out_from, settings)
    try:
        cases = held_out_cases(sequences, catalogue, since, settings, guard=guard_boundary)
    except EvaluationError as error:
        raise NothingToDoError(f"the candidate cannot be judged: {error}") from error
    held_out = evaluate(scorers | baselines, cases, settings, opponent_version)
    guarded = guard_cases(sequences, catalogue, settings) if snapshot.manifest.kind == "micro" else None
    guard = None if guarded is None else evaluate(scorers, guarded, settings, opponent_version)
    comparison = Comparison(held_out, guard)
    comparison.save(folder)
    write_report(folder, held_out, settings, guard, candidate.parent / HISTORY_FILE)
    return comparison


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
