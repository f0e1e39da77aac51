"""The images: what the Compose file builds, and what the Dockerfile copies and installs."""

import re
import tomllib
from typing import Any

import pytest

from tests.deployment.compose import (
    COMPOSE_FILE,
    DOCKERFILE,
    REPOSITORY,
    dockerfile_environment,
    load_compose_file,
)

_SERVICES: dict[str, Any] = load_compose_file()["services"]
_PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
_PYTHON: str = _PROJECT["tool"]["mypy"]["python_version"]


def _stages() -> dict[str, str]:
    """Return the build stages of the Dockerfile, each with its base."""
    found = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    return {stage: base for base, stage in found}


def _stage_text(stage: str) -> str:
    """Return the instructions of one build stage."""
    return DOCKERFILE.read_text().partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]


def test_every_build_target_is_a_stage_of_the_dockerfile() -> None:
    stages = _stages()
    for service, definition in _SERVICES.items():
        if "build" in definition:
            assert "image" not in definition, service
            assert definition["build"]["target"] in stages, service
            assert (REPOSITORY / definition["build"]["dockerfile"]).is_file()
        else:
            assert re.fullmatch(r"[\w./-]+:[\w.-]+", definition["image"]), f"{service} has no pinned tag"


def test_dockerfile_copies_only_files_that_exist_and_are_in_the_build_context() -> None:
    ignore = (DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text().split()
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert {"recsys", "dags", "plugins", "sql"} <= sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert f"!{source}" in ignore, source


def test_dockerfile_installs_extras_that_exist() -> None:
    project = _PROJECT["project"]
    named = re.findall(
        r"""['"]\.\[([\w,]+)(?:\$\{OBJECT_STORE:\+,\$OBJECT_STORE\})?\]['"]""", DOCKERFILE.read_text()
    )
    assert len(named) == DOCKERFILE.read_text().count(".[") == 3
    stores = ["s3", "gcs", "azure"]
    assert "s3, gcs or azure" in COMPOSE_FILE.read_text()
    for extra in {extra for names in named for extra in names.split(",")}.union(stores):
        assert extra in project["optional-dependencies"]


def test_images_have_the_python_version_of_the_pinned_packages() -> None:
    assert _stages()["base"].startswith(f"python:{_PYTHON}-")


def test_wheel_is_built_with_the_build_backend_of_the_project() -> None:
    (backend,) = _PROJECT["build-system"]["requires"]
    installed = re.search(r"^RUN pip install .* (\w+)$", _stage_text("wheel"), flags=re.MULTILINE)

    assert installed is not None
    assert backend.startswith(installed[1])


@pytest.mark.parametrize("target", ["serving", "orchestration", "worker"])
def test_images_install_the_wheel_and_contain_no_source_code(target: str) -> None:
    text = _stage_text(target)

    assert "--mount=type=bind,from=wheel,source=/wheels,target=/wheels" in text
    assert "pip install --no-deps --force-reinstall /wheels/*.whl" in text
    assert not re.search(r"COPY (sql|dags|plugins|recsys)\b", text)


@pytest.mark.parametrize("folder", ["dags", "plugins"])
def test_airflow_loads_dags_and_plugins_from_the_installed_package(folder: str) -> None:
    packaged = _PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["sources"][folder]

    found = dockerfile_environment()[f"AIRFLOW__CORE__{folder.upper()}_FOLDER"]

    assert found == f"/usr/local/lib/python{_PYTHON}/site-packages/{packaged}"


def test_only_worker_images_contain_torch() -> None:
    worker = {
        service for service, d in _SERVICES.items() if d.get("build", {}).get("target") in {"worker", "gpu"}
    }

    assert worker == {"airflow-worker", "airflow-worker-gpu"}
