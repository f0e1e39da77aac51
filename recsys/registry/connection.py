"""Connect to MLflow: fail fast when it does not answer, and keep it quiet."""

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import requests
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_USERNAME
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from recsys.errors import ConfigurationError, RegistryError, ServiceUnavailableError
from recsys.settings import Settings

_PING_SECONDS = 5
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "TQDM_DISABLE": "1",
}
_REFUSED = {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED"}
_TRANSIENT = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "INTERNAL_ERROR", "IO_ERROR"}


def mlflow_client(settings: Settings) -> MlflowClient:
    """Return a client of the configured MLflow after a check that the server answers.

    Raises
    ------
    ConfigurationError
        No tracking URI is set, or the server refuses the login.
    ServiceUnavailableError
        The server does not answer.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic", "py.warnings"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if settings.mlflow_username is not None and settings.mlflow_password is not None:
        # MLflow's client takes a login from nowhere else.
        os.environ[MLFLOW_TRACKING_USERNAME.name] = settings.mlflow_username
        os.environ[MLFLOW_TRACKING_PASSWORD.name] = settings.mlflow_password.get_secret_value()
    uri = settings.require_tracking_uri()
    if uri.startswith(("http://", "https://")):
        _ping(uri)
    # The fluent API, which logs models, reads this process-wide setting.
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with mlflow_errors(settings, "connect to the registry"):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def mlflow_errors(settings: Settings, action: str) -> Iterator[None]:
    """Convert errors of MLflow to ours; `action` completes "MLflow could not ..."."""
    uri = settings.mlflow_tracking_uri
    try:
        yield
    except (requests.ConnectionError, requests.Timeout, sqlalchemy.exc.OperationalError) as error:
        raise ServiceUnavailableError(f"MLflow at {uri} could not {action}: {error}") from error
    except requests.HTTPError as error:  # from its artifact store
        status = 0 if error.response is None else error.response.status_code
        if status in (401, 403):
            raise _refused(settings, action) from error
        kind = ServiceUnavailableError if status >= 500 else RegistryError
        raise kind(f"MLflow at {uri} could not {action}: {error}") from error
    except MlflowException as error:
        if error.error_code in _REFUSED:
            raise _refused(settings, action) from error
        # Server versions report an outage in different ways; the error code is the best hint.
        if error.error_code in _TRANSIENT:
            raise ServiceUnavailableError(f"MLflow at {uri} could not {action}: {error.message}") from error
        raise RegistryError(f"MLflow at {uri} could not {action}: {error.message}") from error


def _refused(settings: Settings, action: str) -> ConfigurationError:
    user = f"the user {settings.mlflow_username}" if settings.mlflow_username else "requests without a login"
    return ConfigurationError(
        f"MLflow at {settings.mlflow_tracking_uri} does not let {user} {action}: set "
        "RECSYS_MLFLOW_USERNAME and RECSYS_MLFLOW_PASSWORD to the login of an administrator of MLflow "
        "(`recsys up` does so for the embedded stack)"
    )


def is_missing(error: MlflowException) -> bool:
    """Return whether an error means that something does not exist."""
    return bool(error.error_code == ErrorCode.Name(1001) or error.error_code == "RESOURCE_DOES_NOT_EXIST")


def quoted(value: str) -> str:
    """Return a value as a string literal of MLflow's filter language."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise ConfigurationError(f"MLflow cannot search for a value with both kinds of quotes: {value}")


def _ping(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_PING_SECONDS):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        # The server answers; the first request shows whether it grants access.
        if error.code < 500:
            return
        raise ServiceUnavailableError(f"MLflow at {uri} answers with status {error.code}") from error
    except (OSError, ValueError) as error:
        raise ServiceUnavailableError(
            f"no MLflow answers at {uri}: {error}; start it (`recsys up` for the embedded stack) or correct "
            "RECSYS_MLFLOW_TRACKING_URI"
        ) from error
