"""The MLflow server in one process: `python -m recsys.local.mlflow_server --port PORT ...`.

`mlflow server` loads all of MLflow only to start another Python that loads it again, and stays: on one
machine that doubles MLflow's share of the start-up time and of the memory. This does the same in one
process. It leans on names inside MLflow, which constraints.txt pins; a test asks the running server.
"""

import argparse
import os
import uuid

import uvicorn
from mlflow.environment_variables import _MLFLOW_SERVER_BOOT_ID, _MLFLOW_SGI_NAME
from mlflow.server import constants
from mlflow.server.handlers import initialize_backend_stores

from recsys.local.ports import LOOPBACK

_PROXIED_ARTIFACTS = "mlflow-artifacts:/"


def main() -> None:
    """Migrate the backend store and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m recsys.local.mlflow_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend-store-uri", required=True)
    parser.add_argument("--artifacts-destination", required=True)
    options = parser.parse_args()
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
    # Who asks for its health every few seconds need not be written down.
    uvicorn.run("mlflow.server.fastapi_app:app", host=LOOPBACK, port=options.port, access_log=False)


if __name__ == "__main__":
    main()
