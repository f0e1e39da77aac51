import pytest
from typer.testing import CliRunner

from recsys.commands import models
from recsys.commands.main import app
from recsys.promotion import ledger


@pytest.fixture
def recsys(settings, monkeypatch):
    monkeypatch.setattr(models, "load_settings", lambda: settings)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_without_a_champion_the_command_says_what_to_run(recsys):
    shown = recsys("champion")
    assert shown.exit_code == 1
    assert "Run nightly_training" in shown.output


def test_champion_and_history_show_who_decided_what(recsys, warehouse):
    for version, before in (("1", None), ("2", "1")):
        ledger.promote(
            warehouse, version, before, reason="better", explanation="Clearly.", actor="nightly"
        )  # fmt: skip
    assert "Version 2 has been champion since" in recsys("champion").output
    assert "It replaced version 1" in recsys("champion").output
    lines = recsys("history").output
    assert lines.count("promote") == 2
    assert recsys("history", "--limit", "1").output.count("promote") == 1


def test_a_manual_change_needs_a_reason(recsys):
    assert "--reason" in recsys("rollback").output
    assert recsys("promote", "1").exit_code == 2
