"""`recsys experiment`: start, status and stop."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from click.testing import Result
from typer.testing import CliRunner

from recsys.commands import experiment
from recsys.commands.main import app
from recsys.experiments import experiment as experiments
from recsys.promotion import ledger, serving_term
from recsys.registry import versions
from recsys.settings import Settings
from recsys.warehouse.tables import experiment_readouts

Command = Callable[..., Result]


@pytest.fixture
def recsys(warehouse: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, with version 1 as champion; every version has whole files."""
    monkeypatch.setattr(experiment, "load_settings", lambda: settings)
    monkeypatch.setattr(versions, "download_checkpoint", lambda *_: None)
    monkeypatch.setattr(serving_term, "refuse_if_over", lambda *_: None)
    ledger.promote(warehouse, "1", None, reason="test", explanation="It is a test.", actor="tests")
    return lambda *arguments: CliRunner().invoke(app, ["experiment", *arguments])


def test_an_experiment_from_start_to_stop(recsys: Command, warehouse: sa.Engine) -> None:
    assert recsys("status").exit_code == 1
    started = recsys("start", "first", "2", "--share", "0.1", "--guardrail", "slates=0.1", "--no-publish")
    assert "Experiment first runs: version 2 against the champion." in started.output
    with warehouse.connect() as connection:
        found = experiments.running(connection)
    assert found is not None
    assert (found.challenger_share, found.guardrails) == (0.1, {"slates": 0.1})
    assert "not shown yet, 28 days planned" in recsys("status").output
    assert recsys("stop", "first").exit_code == 2  # without a reason
    assert "has ended" in recsys("stop", "first", "--reason", "Enough.", "--no-publish").output
    assert "(stopped_by_person): Enough." in recsys("status").output


def test_status_shows_the_figures_of_the_newest_look(recsys: Command, warehouse: sa.Engine) -> None:
    recsys("start", "first", "2", "--no-publish")
    reading = {
        "metric": "click_through", "role": "success", "margin": 0.0, "control": 0.1, "challenger": 0.12,
        "difference": 0.02, "low": 0.004, "high": None, "verdict": "better",
    }  # fmt: skip
    with warehouse.begin() as connection:
        found = experiments.running(connection)
        assert found is not None
        connection.execute(
            sa.insert(experiment_readouts).values(
                experiment_id=found.experiment_id,
                run_key="run", until=datetime.now(UTC), share=0.25,
                users={"control": 1234, "challenger": 1200}, mismatch_p_value=0.4,
                left_out={}, readings=[reading], outcome="running",
            )
        )  # fmt: skip
    shown = recsys("status").output
    for expected in ("25% of the planned time", "control 1,234", "+0.0200", "+0.0040 to -", "better"):
        assert expected in shown


def test_a_guardrail_that_is_none_is_refused(recsys: Command) -> None:
    refused = recsys("start", "first", "2", "--guardrail", "slates")
    assert "is not METRIC=SHARE" in str(refused.exception)


def test_interleaving_is_an_experiment_on_what_users_prefer(recsys: Command, warehouse: sa.Engine) -> None:
    refused = recsys("start", "first", "2", "--interleave", "--guardrail", "slates=0.1", "--no-publish")
    assert "slates is of neither; the only guardrail there is dislikes" in str(refused.exception)
    refused = recsys("start", "first", "2", "--interleave", "--success", "conversions", "--no-publish")
    assert "--success does not apply with --interleave" in str(refused.exception)
    started = recsys("start", "first", "2", "--interleave", "--guardrail", "dislikes=0.3", "--no-publish")
    assert "version 2 interleaved with the champion" in started.output
    with warehouse.connect() as connection:
        found = experiments.running(connection)
    assert found is not None
    assert (found.kind, found.success, found.guardrails) == ("interleave", ["preference"], {"dislikes": 0.3})
    assert "interleaved with the champion" in recsys("status").output
