"""Give Airflow a home folder before a test of the deployment imports it."""

import os

from tests.deployment.compose import REPOSITORY

# Airflow writes its configuration file when it is imported, by default into the user's home folder.
os.environ.setdefault("AIRFLOW_HOME", str(REPOSITORY / ".pytest_cache" / "airflow"))
