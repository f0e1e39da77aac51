import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import sqlalchemy as sa

from recsys.errors import RegistryError
from recsys.model.checkpoint import load_recommender
from recsys.model.live_interest import LiveInterest
from recsys.publishing import servable
from recsys.publishing.servable import load_planned, load_servable
from recsys.registry import registration, versions
from recsys.registry.connection import mlflow_client
from recsys.registry.knowledge import record_knowledge
from recsys.registry.local_copies import find_checkpoint
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.registry.versions import download_checkpoint, download_model, load_version, trained_through
from recsys.warehouse.tables import model_versions

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
    assert tags["recsys.code_version"].startswith("0.")
    assert trained_through(settings, registered.version).transaction_id == 17


def test_the_weights_of_live_interest_reach_the_warehouse(
    settings, make_training, lineage, recommender, warehouse
):
    recommender.live_interest = LiveInterest(4.0, 0.5, 2.0, 0.25, 1.5)
    training = make_training()
    run_id = track_training(settings, "nightly:1", training, lineage)
    registered = register_version(
        settings, run_id=run_id, run_key="nightly:1", training=training, lineage=lineage
    )
    older = replace(registered, version="2", tags=registered.tags.copy())
    del older.tags[versions.LIVE_INTEREST]
    for version in (registered, older):
        record_knowledge(warehouse, settings, version)
    with warehouse.connect() as connection:
        recorded = (
            connection.execute(sa.select(model_versions).order_by(model_versions.c.model_version))
            .mappings()
            .all()
        )
    found = [[value for name, value in row.items() if name.startswith("live_")] for row in recorded]
    assert found == [[4.0, 0.5, 2.0, 0.25, 1.5], [None] * 5]


def test_the_challenger_is_the_newest_version_and_the_pyfunc_has_signature_and_example(settings, register):
    register()
    newest = register("nightly:2", bias=0.1)
    client = mlflow_client(settings)
    name = settings.registered_model
    assert str(client.get_registered_model(name).aliases["challenger"]) == newest.version
    from mlflow.models import get_model_info

    info = get_model_info(f"models:/{name}@challenger")
    assert [column.name for column in info.signature.inputs.inputs] == ["history", "request", "candidates"]
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
    assert find_checkpoint(settings, registered.version) is None
    folder = download_checkpoint(settings, registered.version)
    assert versions.folder_digest(folder) == registered.checkpoint_digest
    monkeypatch.setattr(versions.mlflow.artifacts, "download_artifacts", None)
    assert download_checkpoint(settings, registered.version) == folder
    assert list(load_recommender(folder).catalogue.item_ids) == list(recommender.catalogue.item_ids)
    # A worker of shards, for which MLflow is not asked.
    monkeypatch.setattr(servable, "load_servable", None)
    planned = load_planned(settings, registered.version)
    assert list(planned.model.catalogue.item_ids) == list(recommender.catalogue.item_ids)


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
    assert find_checkpoint(settings, registered.version) is None
    folder = download_checkpoint(settings, registered.version)
    assert versions.folder_digest(folder) == registered.checkpoint_digest
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_checkpoint_that_was_changed_in_the_store_is_refused(settings, register):
    registered = register()
    [stored] = (settings.home.resolve() / "mlflow" / "artifacts").rglob("checkpoint/manifest.json")
    stored.write_text(stored.read_text() + " ")
    with pytest.raises(RegistryError, match=r"artifacts/checkpoint/manifest\.json has changed"):
        download_checkpoint(settings, registered.version)
    assert not list((settings.runs / "checkpoints").iterdir())


def _stored(settings):
    [code] = (settings.home.resolve() / "mlflow" / "artifacts").rglob("pyfunc_code.py")
    return code.parent


def test_a_version_with_changed_missing_or_added_code_is_refused_by_the_name_of_the_file(
    settings, register, tmp_path
):
    registered = register()
    stored = _stored(settings)
    code = (stored / "pyfunc_code.py").read_bytes()
    (stored / "pyfunc_code.py").write_text("import os; os.abort()")
    for load in (
        lambda: download_checkpoint(settings, registered.version),
        lambda: download_model(settings, registered.version, tmp_path / "served"),
        lambda: load_servable(settings, registered.version),
    ):
        with pytest.raises(RegistryError, match=r"pyfunc_code\.py has changed.*rollback"):
            load()
    (stored / "pyfunc_code.py").write_bytes(code)
    (stored / "sitecustomize.py").write_text("import os; os.abort()")
    with pytest.raises(RegistryError, match=r"sitecustomize\.py was added"):
        download_model(settings, registered.version, tmp_path / "served")
    (stored / "sitecustomize.py").unlink()
    (stored / "requirements.txt").unlink()
    with pytest.raises(RegistryError, match=r"requirements\.txt is missing"):
        download_checkpoint(settings, registered.version)
    assert not (tmp_path / "served").exists()


def test_no_bytecode_is_stored(settings, register, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    registered = register()
    assert not list(_stored(settings).rglob("*.pyc"))
    download_checkpoint(settings, registered.version)


def test_the_file_that_mlflow_executes_holds_no_logic(settings, register):
    register()
    statements = ast.parse((_stored(settings) / "pyfunc_code.py").read_text()).body
    assert [type(statement) for statement in statements] == [
        ast.Expr,
        ast.ImportFrom,
        ast.ImportFrom,
        ast.Expr,
    ]


def test_a_version_that_is_pointed_at_another_model_is_refused(settings, register, warehouse):
    one, two = register(), register("nightly:2", bias=0.1)
    changed = sa.create_engine(settings.mlflow_tracking_uri)
    with changed.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE model_versions SET source = (SELECT source FROM model_versions WHERE version = 1)"
        )
    changed.dispose()
    download_checkpoint(settings, one.version)
    with pytest.raises(RegistryError, match="version 2 of model recommender is not what was registered"):
        download_checkpoint(settings, two.version)


def test_a_version_that_this_system_did_not_register_is_refused_until_its_task_is_cleared(
    settings, make_training, lineage, warehouse
):
    training = make_training()
    run_id = track_training(settings, "nightly:1", training, lineage)
    arguments = {"run_id": run_id, "run_key": "nightly:1", "training": training, "lineage": lineage}
    registered = register_version(settings, **arguments)
    with warehouse.begin() as connection:
        connection.exec_driver_sql("DELETE FROM model_files")
    with pytest.raises(RegistryError, match=r"no digests of the files of version 1.*`register`"):
        download_checkpoint(settings, registered.version)
    assert register_version(settings, **arguments).version == registered.version
    download_checkpoint(settings, registered.version)


def test_a_version_of_an_earlier_release_is_trusted_at_its_first_use_and_verified_from_then_on(
    settings, register, warehouse
):
    registered = register()
    with warehouse.begin() as connection:
        connection.exec_driver_sql("UPDATE model_files SET model_id = NULL, run_key = NULL, files = NULL")
    weights = _stored(settings) / "artifacts" / "checkpoint" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content + b"!")
    with pytest.raises(RegistryError, match="not the one that was registered"):
        download_checkpoint(settings, registered.version)
    weights.write_bytes(content)
    folder = download_checkpoint(settings, registered.version)
    assert versions.folder_digest(folder) == registered.checkpoint_digest
    (_stored(settings) / "MLmodel").write_text("changed")
    shutil.rmtree(folder)
    with pytest.raises(RegistryError, match="MLmodel has changed"):
        download_checkpoint(settings, registered.version)


def test_a_model_that_was_logged_but_not_recorded_is_logged_anew(settings, make_training, lineage, warehouse):
    training = make_training()
    run_id = track_training(settings, "nightly:1", training, lineage)
    arguments = {"run_id": run_id, "run_key": "nightly:1", "training": training, "lineage": lineage}
    first = register_version(settings, **arguments)
    mlflow_client(settings).delete_model_version(settings.registered_model, first.version)
    with warehouse.begin() as connection:
        connection.exec_driver_sql("DELETE FROM model_files")
    again = register_version(settings, **arguments)
    assert again.model_id != first.model_id
    download_checkpoint(settings, again.version)


def test_versions_of_an_mlflow_that_was_set_up_anew_replace_the_records_of_the_old_one(
    settings, register, empty_mlflow, tmp_path
):
    register()
    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    registered = register("nightly:2", bias=0.1)
    assert registered.version == "1"
    download_checkpoint(settings, "1")


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
