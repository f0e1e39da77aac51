import json
import os
import subprocess
import sys

import pytest

from recsys.errors import RegistryError
from recsys.model.checkpoint import load_recommender
from recsys.registry import registration, versions
from recsys.registry.connection import mlflow_client
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.registry.versions import download_checkpoint, load_version, trained_through

pytestmark = pytest.mark.usefixtures("mlflow_database")


@pytest.fixture
def register(settings, make_training, lineage):
    def registered(run_key="nightly:1", **options):
        training = make_training(run_key, **options)
        run_id = track_training(settings, run_key, training, lineage)
        return register_version(settings, run_id=run_id, run_key=run_key, training=training, lineage=lineage)

    return registered


def test_a_version_has_tags_of_its_lineage(settings, register, lineage):
    registered = register()
    tags = load_version(settings, registered.version).tags
    assert tags["recsys.snapshot_digest"] == lineage.snapshot.digest
    assert tags["recsys.kind"] == "full"
    assert tags["recsys.window_id"] == "1"
    assert tags["recsys.training_seconds"] == "1.5"
    assert len(tags["recsys.base_encoder_sha256"]) == 64
    assert tags["recsys.code_version"].startswith("0.")
    assert trained_through(settings, registered.version).transaction_id == 17


def test_the_challenger_is_the_newest_version_and_the_pyfunc_has_signature_and_example(settings, register):
    register()
    newest = register("nightly:2", bias=0.1)
    client = mlflow_client(settings)
    name = settings.registered_model
    assert str(client.get_registered_model(name).aliases["challenger"]) == newest.version
    from mlflow.models import get_model_info

    info = get_model_info(f"models:/{name}@challenger")
    assert [column.name for column in info.signature.inputs.inputs] == ["history", "request"]
    assert {param.name for param in info.signature.params.params} == {"k", "exclude_consumed"}
    assert info.saved_input_example_info is not None


def test_a_retry_after_a_kill_between_logging_and_registering_makes_no_second_model(
    settings, make_training, lineage, monkeypatch
):
    training = make_training()
    run_id = track_training(settings, "nightly:1", training, lineage)
    arguments = {"run_id": run_id, "run_key": "nightly:1", "training": training, "lineage": lineage}

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registration, "_ensure_registered_model", killed)
        with pytest.raises(KeyboardInterrupt):
            register_version(settings, **arguments)
    first = register_version(settings, **arguments)
    again = register_version(settings, **arguments)
    assert first.version == again.version == "1"
    client = mlflow_client(settings)
    experiment_id = client.get_run(run_id).info.experiment_id
    assert len(client.search_logged_models([experiment_id])) == 1
    assert len(client.search_model_versions(f"name = '{settings.registered_model}'")) == 1


def test_a_checkpoint_comes_back_as_it_was_and_is_fetched_once(settings, register, recommender, monkeypatch):
    registered = register()
    folder = download_checkpoint(settings, registered.version)
    assert versions.folder_digest(folder) == registered.checkpoint_digest
    monkeypatch.setattr(versions.mlflow.artifacts, "download_artifacts", None)
    assert download_checkpoint(settings, registered.version) == folder
    assert list(load_recommender(folder).catalogue.item_ids) == list(recommender.catalogue.item_ids)


@pytest.mark.parametrize("damage", ["flipped bit", "missing file", "cut"])
def test_a_damaged_copy_of_a_checkpoint_is_fetched_again(settings, register, damage):
    registered = register()
    weights = download_checkpoint(settings, registered.version) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    if damage == "missing file":
        weights.unlink()
    else:
        weights.write_bytes(content if damage == "flipped bit" else content[:100])
    folder = download_checkpoint(settings, registered.version)
    assert versions.folder_digest(folder) == registered.checkpoint_digest
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_checkpoint_that_was_changed_in_the_store_is_refused(settings, register):
    registered = register()
    [stored] = (settings.home.resolve() / "mlflow" / "artifacts").rglob("checkpoint/manifest.json")
    stored.write_text(stored.read_text() + " ")
    with pytest.raises(RegistryError, match="does not match its digest"):
        download_checkpoint(settings, registered.version)
    assert not list((settings.runs / "checkpoints").iterdir())


@pytest.mark.parametrize("version", ["99", "latest", "no such thing"])
def test_an_unknown_version_is_refused_by_name(settings, register, version):
    register()
    with pytest.raises(RegistryError, match=f"there is no version {version}"):
        load_version(settings, version)


_CLEAN_PROCESS = """
import json, sys
import mlflow, pandas as pd

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/recommender/1")
history = [{"item_id": "item1", "event_type": "rating", "value": 5, "occurred_at": "2026-01-01T00:00:00Z"}]
users = pd.DataFrame({"history": [history, []]})
print(json.dumps(model.predict(users, params={"k": 4}).to_dict("list")))
"""


def test_a_version_loads_and_predicts_in_a_clean_process(settings, register):
    register()
    done = subprocess.run(
        [sys.executable, "-c", _CLEAN_PROCESS, settings.mlflow_tracking_uri],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [len(items) for items in answer["item_ids"]] == [4, 4]
    assert "item1" not in answer["item_ids"][0]
    assert answer["titles"][0][0] == answer["item_ids"][0][0].title()
    assert answer["scores"][0] == sorted(answer["scores"][0], reverse=True)
