"""What holds for all commands: help texts, and how errors are printed."""

from collections.abc import Iterator

import click
import pytest
import typer.main

from recsys.commands.main import app, main
from recsys.commands.settings import describe_settings
from recsys.settings import Settings


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a command, with the words that call it."""
    yield " ".join(words), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


def test_every_command_and_every_option_has_a_help_text() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert {"up", "ingest feedback", "quarantine list", "rollback", "after-restore"} <= found.keys()
    for words, command in found.items():
        assert command.help, words
        for parameter in command.params:
            assert getattr(parameter, "help", None), (words, parameter.name)


def test_a_wrong_setting_is_named_by_its_environment_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_PUBLISHING__K", "many")
    monkeypatch.setattr("sys.argv", ["recsys", "champion"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "RECSYS_PUBLISHING__K: Input should be a valid integer" in capsys.readouterr().err


def test_settings_are_listed_with_their_meaning_and_secrets_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_PUBLISHING__K", "7")
    monkeypatch.setenv("RECSYS_PSEUDONYM_KEY", "a key that only tests use")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["recsys", "settings"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "7" in rows["RECSYS_PUBLISHING__K"].split()
    assert "length of a published list, in items" in rows["RECSYS_PUBLISHING__K"]
    assert "(set)" in rows["RECSYS_PSEUDONYM_KEY"]
    assert "only tests use" not in rows["RECSYS_PSEUDONYM_KEY"]


def test_every_setting_has_a_meaning() -> None:
    described = list(describe_settings(Settings(), "RECSYS_"))
    assert described
    assert [name for name, _, meaning in described if not meaning] == []
