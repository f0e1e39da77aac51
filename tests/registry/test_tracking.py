import pytest

from recsys.errors import ConfigurationError, ServiceUnavailableError
from recsys.registry.connection import mlflow_client
from recsys.registry.tracking import experiment, track_training

pytestmark = pytest.mark.usefixtures("mlflow_database")


def test_a_retried_training_is_logged_once(settings, make_training, lineage):
    training = make_training()
    run_id = track_training(settings, "nightly:1", training, lineage)
    assert track_training(settings, "nightly:1", training, lineage) == run_id
    client = mlflow_client(settings)
    assert len(client.search_runs([experiment(client, settings)])) == 1
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == str(settings.training.epochs)
    assert run.data.tags["recsys.data_docs"] == lineage.data_docs
    curve = client.get_metric_history(run_id, "curve/validation_ndcg")
    assert [(point.step, round(point.value, 1)) for point in curve] == [(0, 0.0), (1, 0.1), (2, 0.2)]


def test_the_snapshot_is_a_dataset_of_the_run_by_digest(settings, make_training, lineage):
    run_id = track_training(settings, "nightly:1", make_training(), lineage)
    track_training(settings, "nightly:1", make_training("again"), lineage)
    [dataset] = mlflow_client(settings).get_run(run_id).inputs.dataset_inputs
    assert dataset.dataset.digest == "d" * 32
    assert lineage.snapshot.uri in dataset.dataset.source


def test_no_secret_becomes_a_parameter(settings, make_training, lineage):
    run_id = track_training(settings, "nightly:1", make_training(), lineage)
    data = mlflow_client(settings).get_run(run_id).data
    logged = f"{data.params} {data.tags}"
    assert settings.pseudonym_key.get_secret_value() not in logged
    assert settings.warehouse_url.get_secret_value() not in logged


def test_an_mlflow_that_does_not_answer_is_reported_within_seconds(settings):
    away = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(ServiceUnavailableError, match="no MLflow answers at"):
        mlflow_client(away)


def test_a_missing_tracking_uri_says_how_to_set_it(settings):
    with pytest.raises(ConfigurationError, match="RECSYS_MLFLOW_TRACKING_URI"):
        mlflow_client(settings.model_copy(update={"mlflow_tracking_uri": None}))
