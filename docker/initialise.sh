#!/usr/bin/env bash
# Before anything else starts: schemas, the pool, the first user. Safe to run again at every start.
set -euo pipefail

airflow db migrate
airflow pools set model_writer 1 "One writer of models at a time"
recsys migrate

# SimpleAuthManager reads its users' passwords from a file; the file is on a volume of its own.
python - <<'PYTHON'
import json
import os
from pathlib import Path

path = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
path.touch(mode=0o600)
path.write_text(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))
PYTHON
