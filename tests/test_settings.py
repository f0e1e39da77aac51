"""What the environment may say, and what is refused with the name of the variable."""

import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from recsys.commands.main import main
from recsys.errors import ConfigurationError
from recsys.settings import load_settings


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400"])
@pytest.mark.parametrize(
    "name", ["TRAINING__LEARNING_RATE", "APPROVAL__TIMEOUT_HOURS", "PUBLISHING__DIVERSITY"]
)
def test_a_setting_is_a_finite_number(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RECSYS_{name}", value)
    with pytest.raises(ValidationError):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRAINING__SEED", "9" * 30),
        ("VALIDATION__FUTURE_TOLERANCE_MINUTES", "2147483647"),
        ("RETENTION__SNAPSHOTS_DAYS", "1000000"),
        ("RETENTION__FEEDBACK_MONTHS", "1000000"),
        ("APPROVAL__TIMEOUT_HOURS", "1e300"),
    ],
)
def test_a_number_that_postgres_or_python_cannot_use_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RECSYS_{name}", value)
    with pytest.raises(ValidationError):
        load_settings()


def test_only_the_word_inf_means_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_VALIDATION__VOLUME__FAIL_MAX", "inf")
    assert load_settings().validation.volume.fail_max is None
    for wrong in ("nan", "1e400"):
        monkeypatch.setenv("RECSYS_VALIDATION__VOLUME__FAIL_MAX", wrong)
        with pytest.raises(ValidationError):
            load_settings()


def test_a_list_that_is_not_json_is_named_with_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_EVALUATION__ITEM_SLICES", "genre")
    monkeypatch.setattr("sys.argv", ["recsys", "settings"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert 'RECSYS_EVALUATION__ITEM_SLICES must be JSON, such as ["genre"]' in message
    assert "'genre'" in message


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "recsys.env").write_bytes(b"RECSYS_REGISTERED_MODEL=\xff\n")
    with pytest.raises(ConfigurationError, match=r"recsys\.env cannot be read: .*write"):
        load_settings(tmp_path)


def test_a_misspelt_setting_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RECSYS_TRANING__EPOCHS", "5")
    monkeypatch.setenv("RECSYS_PORT_5432_TCP", "tcp://10.0.0.1:5432")  # what Kubernetes sets for a service
    monkeypatch.setenv("RECSYS_PUBLISHING__K", "7")
    with caplog.at_level(logging.WARNING):
        assert load_settings().publishing.k == 7
    assert caplog.messages == [
        "RECSYS_TRANING__EPOCHS is no setting and changes nothing; did you mean RECSYS_TRAINING__EPOCHS?"
    ]


def test_brackets_in_a_setting_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_EVALUATION__ITEM_SLICES", '["[/red]", "[bold]"]')
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["recsys", "settings"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "('[/red]', '[bold]')" in capsys.readouterr().out
