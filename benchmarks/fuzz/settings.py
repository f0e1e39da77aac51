"""Settings in the environment and in `recsys.env`: each is read as written, or refused with a message."""

import contextlib
import io
import json
import logging
import math
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from benchmarks.fuzz.inputs import Finding, Input
from recsys.commands.main import main
from recsys.settings import load_settings

_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_REFUSED, _EITHER = object(), object()
"""The text must be refused, or may be refused (if it is read, then as `_lenient` reads it)."""
_GENERIC = (
    "", " ", "5", "0", "-1", "0.5", "1.0", "1e3", "1e400", "nan", "NaN", "inf", "-inf", "1_000", "0,5", "٥",
    "none", "null", "None", "true", "False", "yes", "[]", "{}", "[\"a\"]", "['a']", "a,b", "{\"a\": 1}",
    "{\"ndcg\": \"hold\"}", "[1, 2]", "[/red]", "[bold]", "[\"[/x]\"]", "é", "🎬", "9" * 30, "9" * 5000, "--",
    "#", "a b", "\"5\"", "'5'", "5 ", "0x10", "cpu", "all", "frozen", "ALL", "{", "[", "{\"a\": {\"b\": 1}}",
    "2147483648", "36500000",
)  # fmt: skip


def _whole(low: int, high: int = 2**31 - 1) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not _INTEGER.fullmatch(text):
            return _EITHER if _lenient(text) is not None else _REFUSED
        value = int(text[:4000])
        return value if low <= value <= high else _REFUSED

    return read


def _real(
    low: float, high: float = math.inf, *, above: bool = False, never: bool = False
) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if never and text.lower() in ("inf", "-inf"):
            return None
        if not _FLOAT.fullmatch(text):
            return _EITHER if math.isfinite(_lenient(text) or math.nan) else _REFUSED
        value = float(text)
        if math.isinf(value):
            return _REFUSED
        inside = low < value if above else low <= value
        return (
            value
            if inside and value <= high and value < 1e6
            else _REFUSED
            if not inside or value > high
            else _EITHER
        )

    return read


def _choice(*words: str) -> Callable[[str], Any]:
    return lambda text: text if text in words else _REFUSED


def _texts(text: str) -> Any:
    value = _json(text)
    strings = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return tuple(value) if strings else _REFUSED


def _actions(text: str) -> Any:
    value = _json(text)
    if not isinstance(value, dict):
        return _REFUSED
    return (
        value if all(entry in ("reject", "hold", "ask", "ignore") for entry in value.values()) else _REFUSED
    )


def _flag(text: str) -> Any:
    words = {"true": True, "false": False, "yes": True, "1": True, "0": False}
    return words.get(text.lower(), _REFUSED if not text.isalpha() else _EITHER)


_STATED: dict[str, Callable[[str], Any]] = {
    "TRAINING__EPOCHS": _whole(1),
    "TRAINING__BATCH_SIZE": _whole(1),
    "TRAINING__LEARNING_RATE": _real(0, above=True),
    "TRAINING__WEIGHT_AVERAGING": _real(0, math.nextafter(1, 0)),
    "TRAINING__SEED": _whole(-(10**9)),
    "TRAINING__COMPILE": _flag,
    "TRAINING__FEEDBACK_WEIGHT": _real(0),
    "MODEL__FINE_TUNING": _choice("frozen", "top_layers", "lora", "full"),
    "MODEL__ID_DROPOUT": _real(0, math.nextafter(1, 0)),
    "VALIDATION__MAX_COMMENT_LENGTH": _whole(1),
    "VALIDATION__FUTURE_TOLERANCE_MINUTES": _whole(0, 525_600),
    "VALIDATION__VALID_SHARE__FAIL_MIN": _real(-math.inf, never=True),
    "VALIDATION__VOLUME__WARN_MAX": _real(-math.inf, never=True),
    "VALIDATION__NOISY_FEEDBACK": _choice("quarantine", "down_weight"),
    "EVALUATION__ITEM_SLICES": _texts,
    "EVALUATION__K": _whole(1),
    "EVALUATION__CONFIDENCE": _real(math.nextafter(0, 1), math.nextafter(1, 0)),
    "GATE__ON_FAIL": _actions,
    "GATE__NON_INFERIORITY_MARGIN": _real(0),
    "APPROVAL__TIMEOUT_HOURS": _real(0, 8760, above=True),
    "PUBLISHING__EXPLORATION__SHARE": _real(0, 1),
    "PUBLISHING__K": _whole(1),
    "RETENTION__SNAPSHOTS_DAYS": _whole(1, 36_500),
    "RETENTION__CHAMPIONS": _whole(1),
    "SCHEDULES": _flag,
    "REGISTERED_MODEL": lambda text: text or _EITHER,
}
_WRONG_NAMES = (
    "TRAINING",
    "TRAINING__EPOCS",
    "TRANING__EPOCHS",
    "REGISTERED_MODLE",
    "MODEL__",
    "GATE__ON_FAIL__NDCG",
    "EVALUATION__",
)


def make_settings(random: Random, kind: str) -> Input:
    """Return one or a few settings."""
    names = random.sample(list(_STATED), random.choice((1, 1, 2)))
    given = {f"RECSYS_{name}": random.choice(_GENERIC) for name in names}
    if random.random() < 0.15:
        given[f"RECSYS_{random.choice(_WRONG_NAMES)}"] = random.choice(_GENERIC)
    options: dict[str, Any] = {"in_file": random.random() < 0.2}
    content = json.dumps(given, ensure_ascii=False).encode()
    if options["in_file"]:
        lines = "\n".join(f"{name}={value}" for name, value in given.items())
        content = lines.encode()
        if random.random() < 0.3:
            content += random.choice((b"\xff", b"\n=", b"\nexport A", b"\n\0", b"\n'", b"\r\n# comment"))
    return Input(kind, "recsys.env" if options["in_file"] else "settings.json", content, options)


def check_settings(folder: Path, given: Input) -> list[Finding]:
    """Run `recsys settings` in this environment; compare what it reads with what is stated."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    file = home / "recsys.env"
    file.unlink(missing_ok=True)
    environment: dict[str, str] = {}
    if given.options["in_file"]:
        file.write_bytes(given.content)
    else:
        environment = json.loads(given.content)
    others = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    shown = io.StringIO()
    with mock.patch.dict(os.environ, others | {"RECSYS_HOME": str(home)} | environment, clear=True):
        try:
            with (
                mock.patch("sys.argv", ["recsys", "settings"]),
                _logged_to(shown),
                contextlib.redirect_stdout(shown),
                contextlib.redirect_stderr(shown),
            ):
                main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:
            return [Finding("traceback", traceback.format_exc())]
        if code or given.options["in_file"]:
            refused = [
                name for name, text in environment.items() if _stated(name, text) in (_REFUSED, _EITHER)
            ]
            misnamed = [name for name in environment if name.removeprefix("RECSYS_") not in _STATED]
            if code and not refused and not misnamed and not given.options["in_file"]:
                return [Finding("needless_rejection", f"{environment} was refused: {shown.getvalue()}")]
            return []
        return _compare(environment, load_settings(home).model_dump(), shown.getvalue())


@contextlib.contextmanager
def _logged_to(shown: io.StringIO) -> Iterator[None]:
    handler = logging.StreamHandler(shown)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _compare(environment: Mapping[str, str], read: Mapping[str, Any], shown: str) -> list[Finding]:
    findings = []
    for variable, text in environment.items():
        name = variable.removeprefix("RECSYS_")
        if name not in _STATED:
            if variable not in shown:
                findings.append(Finding("silent_change", f"{variable} is no setting, and nothing says so"))
            continue
        stated, value = _stated(variable, text), _at(read, name)
        if stated is _REFUSED:
            findings.append(Finding("silent_change", f"{variable}={text!r} was read as {value!r}"))
        elif stated is _EITHER:
            lenient = _lenient(text)
            if lenient is not None and not isinstance(value, str | bool) and value != lenient:
                findings.append(Finding("silent_change", f"{variable}={text!r} was read as {value!r}"))
        elif value != stated:
            findings.append(
                Finding("silent_change", f"{variable}={text!r} was read as {value!r}, not {stated!r}")
            )
    return findings


def _stated(variable: str, text: str) -> Any:
    read = _STATED.get(variable.removeprefix("RECSYS_"))
    return _EITHER if read is None else read(text)


def _at(read: Mapping[str, Any], name: str) -> Any:
    value: Any = read
    for part in name.lower().split("__"):
        value = value[part]
    return value


def _lenient(text: str) -> float | None:
    try:
        return float(text[:4000])
    except ValueError:
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
