import pytest
from typer.testing import CliRunner

from recsys.commands import models as cli
from recsys.promotion import ledger


@pytest.fixture
def recsys(settings, monkeypatch):
    monkeypatch.setattr(cli, "load_settings", lambda: settings)
    return lambda *arguments: CliRunner().invoke(cli.app, arguments)


def test_without_a_champion_the_command_says_what_to_do(recsys):
    shown = recsys("champion")
    assert shown.exit_code == 1
    assert "run nightly_training" in shown.output


def test_champion_and_history_tell_who_decided_what(recsys, warehouse):
    for version, before in (("1", None), ("2", "1")):
        ledger.promote(
            warehouse, version, before, reason="better", explanation="Clearly.", actor="nightly"
        )  # fmt: skip
    assert "Version 2 is champion since" in recsys("champion").output
    assert "after version 1" in recsys("champion").output
    lines = recsys("history").output
    assert lines.count("promote") == 2
    assert recsys("history", "--limit", "1").output.count("promote") == 1


def test_a_change_by_hand_needs_a_reason(recsys):
    assert "--reason" in recsys("rollback").output
    assert recsys("promote", "1").exit_code == 2
