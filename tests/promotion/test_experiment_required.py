"""Where users decide, the gate's promotions of nightly candidates wait for an experiment."""

from dataclasses import replace

import pytest

from recsys.promotion.decision import HOLD, PROMOTE, REJECT, Decision
from recsys.promotion.experiment_required import require_experiment
from recsys.settings import GateSettings

PROMOTED = Decision(PROMOTE, "better_than_champion", "promoted: better than the champion.", (), "1")
USERS_DECIDE = GateSettings(require_experiment=True)


def test_what_the_gate_would_promote_is_held_until_users_have_decided() -> None:
    held = require_experiment(PROMOTED, "full", "7", USERS_DECIDE)
    assert (held.action, held.reason) == (HOLD, "experiment_required")
    assert "recsys experiment start NAME 7" in held.explanation
    assert held.explanation.endswith("Gate: better than the champion.")


@pytest.mark.parametrize(
    ("decision", "kind", "gate"),
    [
        (PROMOTED, "full", GateSettings()),
        (PROMOTED, "micro", USERS_DECIDE),
        (replace(PROMOTED, expected_champion=None), "full", USERS_DECIDE),
        (replace(PROMOTED, action=REJECT), "full", USERS_DECIDE),
    ],
    ids=["users do not decide", "an hourly update", "the first champion", "rejected anyway"],
)
def test_everything_else_stays_as_the_gate_decided(decision: Decision, kind: str, gate: GateSettings) -> None:
    assert require_experiment(decision, kind, "7", gate) == decision
