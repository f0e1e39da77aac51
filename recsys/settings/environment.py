"""Reads the settings from the environment and from `recsys.env`."""

import logging
import os
from difflib import get_close_matches
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from recsys.errors import ConfigurationError
from recsys.settings.everything import Settings

ENV_FILE_NAME = "recsys.env"
_PREFIX = "RECSYS_"

logger = logging.getLogger(__name__)


class _EnvironmentSettings(Settings, BaseSettings):
    """Settings that come from the environment."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="ignore", frozen=True
    )


def load_settings(home: Path | None = None) -> Settings:
    """Read the environment and the home folder's `recsys.env`; the environment wins.

    Parameters
    ----------
    home
        The home folder; default: `RECSYS_HOME`, or `.recsys`.

    Raises
    ------
    pydantic.ValidationError
        A value is wrong.
    ConfigurationError
        A value is not JSON although its setting is a list or a table, or `recsys.env` cannot be read.
    """
    folder = home or Path(os.environ.get("RECSYS_HOME", ".recsys"))
    file = folder / ENV_FILE_NAME
    try:
        settings = _EnvironmentSettings(_env_file=file, home=folder)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error}; correct it, or remove it and run `recsys up`, which writes it"
        ) from error
    except SettingsError as error:
        raise ConfigurationError(_not_json(error, file)) from error
    for name in sorted(os.environ):
        _warn_of_misspelling(name)
    return settings


def _not_json(error: SettingsError, file: Path) -> str:
    text = getattr(error.__cause__, "doc", None)
    names = [name for name, value in os.environ.items() if name.startswith(_PREFIX) and value == text]
    where = " or ".join(names) or f"a setting in {file}"
    return f'{where} must be JSON, such as ["genre"] or {{"ndcg": "hold"}}, not {text!r} ({error})'


def _warn_of_misspelling(name: str) -> None:
    """Warn of a variable that looks like a setting; other programs have variables with our prefix as well."""
    section, between, rest = name.removeprefix(_PREFIX).partition("__")
    section = section.lower()
    if name.startswith(_PREFIX) and section not in Settings.model_fields:
        close = get_close_matches(section, Settings.model_fields, n=1, cutoff=0.8)
        if close or "__" in name:
            hint = f"; did you mean {_PREFIX}{close[0].upper()}{between}{rest}?" if close else ""
            logger.warning("%s is no setting and changes nothing%s", name, hint)
