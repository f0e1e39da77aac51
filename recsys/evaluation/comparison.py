"""The evidence on a candidate: everything that the gate decides on and the report shows."""

from dataclasses import dataclass, field
from pathlib import Path

from recsys.evaluation.liking import Liking, load_liking, save_liking
from recsys.evaluation.off_policy.compare import OffPolicyComparison
from recsys.evaluation.result import Evaluation

_HELD_OUT, _GUARD = "held_out", "guard"


@dataclass(frozen=True)
class Comparison:
    """Evaluations of a candidate, its champion and the baselines on the same data.

    Attributes
    ----------
    held_out
        All scorers on held-out feedback.
    guard
        Candidate and champion on the past events of guard users; micro-updates only.
    off_policy
        Estimated rewards of candidate and champion on logged slates; None when no logs were read.
    liking
        Calibration and AUC of the liking head, by scorer.
    """

    held_out: Evaluation
    guard: Evaluation | None
    off_policy: OffPolicyComparison | None = None
    liking: dict[str, Liking] = field(default_factory=dict)

    @property
    def evaluations(self) -> list[Evaluation]:
        """The evaluations on held-out feedback and, if there is one, on guard users."""
        return [evaluation for evaluation in (self.held_out, self.guard) if evaluation is not None]

    def save(self, folder: Path) -> None:
        """Write all parts below the folder; `load` needs `held_out`, so it comes last."""
        if self.guard is not None:
            self.guard.save(folder / _GUARD)
        if self.off_policy is not None:
            self.off_policy.save(folder)
        save_liking(self.liking, folder)
        self.held_out.save(folder / _HELD_OUT)

    @classmethod
    def load(cls, folder: Path) -> "Comparison":
        """Read what `save` wrote.

        Raises
        ------
        EvaluationError
            The comparison is missing or incomplete.
        """
        guard = folder / _GUARD
        return cls(
            Evaluation.load(folder / _HELD_OUT),
            Evaluation.load(guard) if guard.is_dir() else None,
            OffPolicyComparison.load(folder),
            load_liking(folder),
        )
