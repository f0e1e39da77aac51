"""Find the folders that are installed with the package but are not Python packages: SQL, DAGs, plugins."""

from pathlib import Path

from recsys.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """Return the source checkout that the package runs from; None when it was installed from a wheel."""
    folder = _PACKAGE.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def resource_folder(name: str) -> Path:
    """Return the folder `sql`, `dags` or `plugins`: at the top of a checkout, inside an installed package.

    Raises
    ------
    ConfigurationError
        The folder is missing.
    """
    folder = (checkout() or _PACKAGE) / name
    if not folder.is_dir():
        raise ConfigurationError(
            f"the folder {folder} is missing, so recsys is only partly installed: install the wheel again, "
            "or run `make install` in a complete checkout"
        )
    return folder
