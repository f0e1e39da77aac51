"""Configure Airflow for the DAG tests before anything imports it."""

import os
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]
# Airflow writes into its home folder when it is imported: each worker needs its own.
_HOME = _REPOSITORY / ".pytest_cache" / f"airflow-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
_HOME.mkdir(parents=True, exist_ok=True)

os.environ["AIRFLOW_HOME"] = str(_HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(_REPOSITORY / "dags")
