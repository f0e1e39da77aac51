"""Imports between rooms go one way, and no modules import each other in a circle."""

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from tests.architecture.import_circles import import_circles

REPOSITORY = Path(__file__).parents[2]


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the layers of pyproject.toml on the package `recsys` in a folder."""
    program = Path(sys.executable).with_name("lint-imports")
    command = [program, "--config", REPOSITORY / "pyproject.toml", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that a test may break."""
    return shutil.copytree(
        REPOSITORY / "recsys", tmp_path / "recsys", ignore=shutil.ignore_patterns("__pycache__")
    )


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_rooms_import_only_from_rooms_below_them() -> None:
    checked = _lint_imports(REPOSITORY)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_import_from_a_higher_room_is_found_even_inside_a_function(package: Path) -> None:
    _append(
        package / "warehouse" / "tables" / "base.py",
        "\n\ndef planted() -> None:\n    from recsys import promotion\n",
    )

    checked = _lint_imports(package.parent)

    assert checked.returncode == 1
    assert "recsys.warehouse is not allowed to import recsys.promotion" in checked.stdout


def test_import_between_rooms_of_one_layer_is_found(package: Path) -> None:
    _append(package / "local" / "ports.py", "\n\nfrom recsys import catalogues\n")

    checked = _lint_imports(package.parent)

    assert checked.returncode == 1
    assert "recsys.local is not allowed to import recsys.catalogues" in checked.stdout


def test_new_room_needs_a_place_in_the_order(package: Path) -> None:
    (package / "kitchen").mkdir()
    (package / "kitchen" / "__init__.py").touch()

    checked = _lint_imports(package.parent)

    assert checked.returncode == 1
    assert "kitchen" in checked.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert import_circles(grimp.build_graph("recsys", cache_dir=None)) == []


def test_circles_are_found_through_functions_and_type_checking_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {
        "__init__": "",
        "one": "from planted_package import two\n",
        "two": "def lazy():\n    from planted_package.three import name\n",
        "three": "import typing\nif typing.TYPE_CHECKING:\n    import planted_package.one\nname = 1\n",
        "four": "from planted_package import one\n",
    }
    folder = tmp_path / "planted_package"
    folder.mkdir()
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    found = import_circles(grimp.build_graph("planted_package", cache_dir=None))

    assert found == [["planted_package.one", "planted_package.three", "planted_package.two"]]
