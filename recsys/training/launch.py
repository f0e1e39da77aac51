"""Starts training in a process of its own, or in several under torchrun, and follows it."""

import json
import logging
import os
import subprocess
import sys
from collections import deque
from pathlib import Path

from recsys.errors import ConfigurationError, TrainingError
from recsys.settings import Settings
from recsys.training.result import TrainingResult, read_result

_LAST_LINES = 20
_log = logging.getLogger(__name__)


def run_training(
    kind: str,
    snapshot_uri: str,
    output_dir: Path | str,
    settings: Settings,
    parent: Path | str | None = None,
) -> TrainingResult:
    """Train and return the result; a run that is already finished in `output_dir` is not repeated.

    The process gets the settings through its environment. Its output goes to the log line by line.
    When this process is stopped, that one is too.

    Raises
    ------
    TrainingError
        With the last lines of the output, when the process fails.
    """
    if kind not in ("full", "micro"):
        raise ConfigurationError(f"training is full or micro, not {kind!r}")
    output = Path(output_dir)
    finished = read_result(output)
    if finished is not None and finished.snapshot_uri == snapshot_uri:
        _log.info("training in %s is finished already", output)
        return finished
    command = [*_python(settings), kind, "--snapshot", snapshot_uri, "--output", str(output)]
    if parent is not None:
        command += ["--parent", str(parent)]
    tail: deque[str] = deque(maxlen=_LAST_LINES)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | training_environment(settings),
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            _log.info("%s", line.rstrip())
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    result = read_result(output)
    if code != 0 or result is None:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == -9:
            reason += ", perhaps killed for using too much memory"
        raise TrainingError(f"{kind} training ended with {reason}; its last lines:\n" + "\n".join(tail))
    return result


def training_environment(settings: Settings) -> dict[str, str]:
    """Return the sections that training reads as environment variables."""
    values: dict[str, str] = {
        "RECSYS_HOME": str(settings.home.resolve()),
        "RECSYS_WORK_ROOT": str(settings.runs),
        "TOKENIZERS_PARALLELISM": "false",
        # Threads that wait by spinning take the cores from Postgres, Airflow and each other.
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
    }
    for section in ("model", "training", "micro_update", "evaluation"):
        for name, value in getattr(settings, section).model_dump(mode="json").items():
            if value is not None:
                text = value if isinstance(value, str) else json.dumps(value)
                values[f"RECSYS_{section.upper()}__{name.upper()}"] = text
    return values


def _python(settings: Settings) -> list[str]:
    if settings.training.devices == 1:
        return [sys.executable, "-m", "recsys.training"]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={settings.training.devices}",
        "-m",
        "recsys.training",
    ]
