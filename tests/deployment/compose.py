"""Read docker-compose.yaml and docker/Dockerfile for the tests that check them."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE_FILE = REPOSITORY / "docker-compose.yaml"
DOCKERFILE = REPOSITORY / "docker" / "Dockerfile"
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<kind>[?-])(?P<rest>[^}]*))?\}")


def load_compose_file() -> dict[str, Any]:
    """Return the parsed Compose file, with resolved anchors and merges but uninterpolated variables."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return content


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """Replace `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$` like Compose does.

    Raises
    ------
    KeyError
        A required variable is not set.
    """

    def value(found: re.Match[str]) -> str:
        given = values.get(found["name"], "")
        if given or found["kind"] is None:
            return given
        if found["kind"] == "?":
            raise KeyError(f"{found['name']}: {found['rest']}")
        return found["rest"]

    return VARIABLE.sub(value, text).replace("$$", "$")


def dockerfile_environment() -> dict[str, str]:
    """Return the variables that the `ENV` instructions of all build stages set."""
    found = {}
    for line in DOCKERFILE.read_text().replace("\\\n", " ").splitlines():
        if line.startswith("ENV "):
            for assignment in shlex.split(line.removeprefix("ENV ")):
                name, _, value = assignment.partition("=")
                found[name] = value
    return found


def environments() -> Iterator[tuple[str, str, str]]:
    """Yield the service, or `Dockerfile`, the name and the value of each variable of both files."""
    for service, definition in load_compose_file()["services"].items():
        for name, value in definition.get("environment", {}).items():
            yield service, name, str(value)
    for name, value in dockerfile_environment().items():
        yield "Dockerfile", name, value
