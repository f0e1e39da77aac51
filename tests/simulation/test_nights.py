"""What the end of an experiment means for a simulated candidate."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from recsys.promotion import ledger
from recsys.settings import Settings
from recsys.simulation import nights
from recsys.simulation.candidates import Candidate
from recsys.simulation.nights import let_users_decide
from recsys.simulation.system import System


def _promote(engine: sa.Engine, version: str, before: str | None) -> None:
    ledger.promote(engine, version, before, reason="test", explanation="It is a test.", actor="tests")


@pytest.mark.parametrize("outcome", ["challenger_better", "challenger_worse"])
def test_the_winner_of_an_experiment_is_promoted(
    warehouse: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    _promote(warehouse, "1", None)

    def read(system: System, *_: Any) -> str:
        if outcome == "challenger_better" and system.settings.gate.require_experiment:
            _promote(warehouse, "2", "1")
        return outcome

    monkeypatch.setattr(nights, "read_experiment", read)
    url = SecretStr(warehouse.url.render_as_string(hide_password=False))
    candidate = Candidate(2, "2", False, True, True, False, "experiment_required", 1.1, 1.0)
    system = System(Settings(home=tmp_path, warehouse_url=url))
    let_users_decide(system, candidate, "day 2 hour 1", datetime.now(UTC), lambda _: None)
    assert (candidate.waits, candidate.decision) == (False, outcome)
    assert candidate.promoted == (outcome == "challenger_better")
