"""Hold what the gate would promote until users have decided, if the settings say so."""

from recsys.promotion.decision import HOLD, PROMOTE, Decision
from recsys.promotion.outcome import change_outcome
from recsys.settings import GateSettings

REASON = "experiment_required"


def require_experiment(decision: Decision, kind: str, version: str, gate: GateSettings) -> Decision:
    """Return the decision, held if users are to decide on it: nightly candidates that have an opponent."""
    waits = gate.require_experiment and kind == "full" and decision.expected_champion is not None
    if not waits or decision.action != PROMOTE:
        return decision
    why = f"Users decide (RECSYS_GATE__REQUIRE_EXPERIMENT): `recsys experiment start NAME {version}`."
    return change_outcome(decision, HOLD, REASON, why)
