"""MLflow: tracking, model versions and the pyfunc."""

import os

# MLflow reads it when it is first imported, which any module of this room may cause.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
