"""MLflow: tracking, model versions and the pyfunc."""

import os

# MLflow reads this at its first import, which any module of this package may trigger.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
