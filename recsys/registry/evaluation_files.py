"""Remove users from the per-user figures of evaluations, on disk and in MLflow's artifacts.

Every Parquet file of an evaluation with a column of user keys is rewritten. Aggregate figures stay: they
reveal nothing about one person.
"""

import logging
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from recsys.columns import Columns
from recsys.registry.connection import mlflow_client, mlflow_errors
from recsys.registry.tracking import EVALUATION_ARTIFACTS
from recsys.settings import Settings

logger = logging.getLogger(__name__)

_FOLDER = "evaluation"
_RUNS_PER_PAGE = 500


def erase_from_evaluations(settings: Settings, user_keys: Collection[str] | None) -> dict[str, int]:
    """Remove users from all per-user figures; return the rows removed by user key.

    After a crash at any point, another call completes the work.

    Parameters
    ----------
    user_keys
        Keyed hashes; None: all users, when the key of the hashes changes.

    Raises
    ------
    ServiceUnavailableError
        MLflow does not answer; files on disk are done.
    """
    removed: Counter[str] = Counter()
    for path in settings.runs.glob(f"*/*/{_FOLDER}/**/*.parquet"):
        removed.update(_erase(path, user_keys))
    if settings.mlflow_tracking_uri is not None:
        client = mlflow_client(settings)
        with mlflow_errors(settings, "remove users from the figures of evaluations"):
            for run_id in _runs(client, settings):
                removed.update(_erase_from_run(client, run_id, user_keys))
    return dict(removed)


def erase_from_evaluation(
    settings: Settings, run_id: str, folder: Path, user_keys: Collection[str]
) -> dict[str, int]:
    """Remove users from one evaluation, in its folder and in its MLflow run; return rows by user key."""
    removed: Counter[str] = Counter()
    for path in folder.rglob("*.parquet"):
        removed.update(_erase(path, user_keys))
    client = mlflow_client(settings)
    with mlflow_errors(settings, f"remove users from the figures of run {run_id}"):
        removed.update(_erase_from_run(client, run_id, user_keys))
    return dict(removed)


def users_of_evaluation(folder: Path) -> set[str]:
    """Return the keyed hashes of all users in the files of an evaluation."""
    keys: set[str] = set()
    for path in folder.rglob("*.parquet"):
        if Columns.USER_KEY in pq.read_schema(path).names:
            keys.update(pq.read_table(path, columns=[Columns.USER_KEY])[Columns.USER_KEY].to_pylist())
    return keys


def remove_figures_by_user(client: MlflowClient, run_id: str) -> None:
    """Remove the files with per-user figures from an MLflow run; reports and plots stay."""
    repository = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
    for path in _parquet_artifacts(client, run_id, EVALUATION_ARTIFACTS):
        repository.delete_artifacts(path)


def _runs(client: MlflowClient, settings: Settings) -> Iterator[str]:
    experiment = client.get_experiment_by_name(settings.registered_model)
    token = None
    while experiment is not None:
        page = client.search_runs(
            [experiment.experiment_id], max_results=_RUNS_PER_PAGE, page_token=token, run_view_type=3
        )
        yield from (run.info.run_id for run in page)
        token = page.token
        if not token:
            return


def _erase_from_run(client: MlflowClient, run_id: str, user_keys: Collection[str] | None) -> Counter[str]:
    removed: Counter[str] = Counter()
    for path in _parquet_artifacts(client, run_id, EVALUATION_ARTIFACTS):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(client.download_artifacts(run_id, path, folder))
            gone = _erase(local, user_keys)
            if gone:
                client.log_artifact(run_id, str(local), str(PurePosixPath(path).parent))
                removed.update(gone)
    return removed


def _parquet_artifacts(client: MlflowClient, run_id: str, folder: str) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _parquet_artifacts(client, run_id, entry.path)
        elif entry.path.endswith(".parquet"):
            yield entry.path


def _erase(path: Path, user_keys: Collection[str] | None) -> Counter[str]:
    """Rewrite a file without the users; return the rows removed by user key."""
    if Columns.USER_KEY not in pq.read_schema(path).names:
        return Counter()
    table = pq.read_table(path)
    keys = table[Columns.USER_KEY].cast(pa.string())
    selected = (
        pa.array([True] * len(keys))
        if user_keys is None
        else pc.is_in(keys, value_set=pa.array(sorted(user_keys), pa.string()))
    )
    gone = Counter(keys.filter(selected).to_pylist())
    if gone:
        partial = path.with_name(f".{path.name}.partial")
        pq.write_table(table.filter(pc.invert(selected)), partial, compression="zstd")
        partial.rename(path)
    return gone
