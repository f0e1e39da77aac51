"""MLflow server with logins in one process: `python -m recsys.commands.serve_mlflow --port PORT ...`.

`mlflow server` imports all of MLflow, then starts a second Python process that imports it again, and stays
in memory itself. On one machine that doubles MLflow's start-up time and memory. This module does the same
work as `mlflow server --app-name basic-auth` in one process. It depends on MLflow internals, which
constraints.txt pins and a test against a running server covers.
"""

import argparse
import os
import uuid

import uvicorn
from mlflow.environment_variables import (
    _MLFLOW_SERVER_BOOT_ID,
    _MLFLOW_SGI_NAME,
    MLFLOW_AUTH_ADMIN_PASSWORD,
    MLFLOW_AUTH_ADMIN_USERNAME,
)
from mlflow.server import constants
from mlflow.server.handlers import initialize_backend_stores

from recsys.local.home import keep_private
from recsys.local.ports import LOOPBACK

_PROXIED_ARTIFACTS = "mlflow-artifacts:/"


def main() -> None:
    """Migrate the backend store and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m recsys.commands.serve_mlflow")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend-store-uri", required=True)
    parser.add_argument("--artifacts-destination", required=True)
    options = parser.parse_args()
    keep_private()
    os.environ.update(
        {
            constants.BACKEND_STORE_URI_ENV_VAR: options.backend_store_uri,
            constants.REGISTRY_STORE_URI_ENV_VAR: options.backend_store_uri,
            constants.ARTIFACT_ROOT_ENV_VAR: _PROXIED_ARTIFACTS,
            constants.ARTIFACTS_DESTINATION_ENV_VAR: options.artifacts_destination,
            constants.SERVE_ARTIFACTS_ENV_VAR: "true",
            _MLFLOW_SERVER_BOOT_ID.name: uuid.uuid4().hex,
            _MLFLOW_SGI_NAME.name: "uvicorn",
        }
    )
    initialize_backend_stores(options.backend_store_uri, options.backend_store_uri, _PROXIED_ARTIFACTS)
    _set_administrator()
    # No access log: the supervisor requests /health every few seconds.
    uvicorn.run(
        "mlflow.server.auth:create_app", factory=True, host=LOOPBACK, port=options.port, access_log=False
    )


def _set_administrator() -> None:
    """Give the administrator the configured password; MLflow itself ignores it after the first start."""
    # It reads its configuration when it is imported.
    from mlflow.server import auth

    auth.bootstrap_admin_user()
    name, password = MLFLOW_AUTH_ADMIN_USERNAME.get(), MLFLOW_AUTH_ADMIN_PASSWORD.get()
    if not auth.store.authenticate_user(name, password):
        auth.store.update_user(name, password=password)


if __name__ == "__main__":
    main()
