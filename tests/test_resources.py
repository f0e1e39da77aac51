from pathlib import Path

import pytest

from recsys import resources
from recsys.errors import ConfigurationError
from recsys.resources import checkout, resource_folder

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as a wheel installs it, in a folder where other distributions left the same names."""
    package = tmp_path / "recsys"
    (package / "sql").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "dags").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", package)
    return package


@pytest.mark.parametrize("name", ["sql", "dags", "plugins"])
def test_checkout_has_its_folders_at_the_top_level(name: str) -> None:
    assert checkout() == REPOSITORY
    assert resource_folder(name) == REPOSITORY / name


def test_installed_package_contains_its_folders(installed: Path) -> None:
    assert checkout() is None
    assert resource_folder("sql") == installed / "sql"


def test_error_names_a_folder_that_the_installed_package_lacks(installed: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(installed / "dags")):
        resource_folder("dags")
