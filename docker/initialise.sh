#!/usr/bin/env bash
# Runs before the other services start: creates the schemas, the pool and the first user. Safe to repeat.
set -euo pipefail

airflow db migrate
airflow pools set model_writer 1 "One writer of models at a time"
recsys migrate

# SimpleAuthManager reads the passwords of its users from a file, which has its own volume.
python - <<'PYTHON'
import json
import os
from pathlib import Path

path = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
path.touch(mode=0o600)
path.write_text(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))
PYTHON
