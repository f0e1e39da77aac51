"""Find the folders that are installed with the package but are not Python packages: SQL, DAGs, plugins."""

from pathlib import Path

from recsys.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """Return the source checkout that the package runs from; None when it was installed from a wheel."""
    # A wheel has the folders inside the package. A pyproject.toml beside the package proves nothing: other
    # distributions install one into site-packages.
    return None if (_PACKAGE / "sql").is_dir() else _PACKAGE.parent


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
