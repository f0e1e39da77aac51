"""Airflow for the DAG tests, configured before anything imports it."""

import os
from pathlib import Path

_HOME = Path(os.environ.get("PYTEST_AIRFLOW_HOME", Path(__file__).parents[2] / ".pytest_cache" / "airflow"))
_HOME.mkdir(parents=True, exist_ok=True)

os.environ["AIRFLOW_HOME"] = str(_HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parents[2] / "dags")
