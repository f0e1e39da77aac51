from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.evaluation.ranking.metrics import metric_names
from recsys.evaluation.result import Evaluation, Figure, SliceResult
from recsys.registry.connection import mlflow_client
from recsys.registry.evaluation_files import (
    erase_from_evaluation,
    erase_from_evaluations,
    users_of_evaluation,
)
from recsys.registry.tracking import track_evaluation, track_training
from recsys.upkeep.erasure import erase_requested, request_erasure
from recsys.warehouse.pseudonyms import fill_user_keys, user_key

pytestmark = pytest.mark.usefixtures("mlflow_database")

USERS = ("anna", "ben", "cleo")


@pytest.fixture
def keys(settings):
    return {user: user_key(user, settings.require_pseudonym_key()) for user in USERS}


@pytest.fixture
def evaluated(settings, make_training, lineage, keys):
    """Two runs whose evaluations hold all three users, on disk and in MLflow."""
    runs = {}
    for number in range(2):
        run_id = track_training(settings, f"nightly:{number}", make_training(f"nightly:{number}"), lineage)
        folder = settings.runs / "full" / str(number) / "evaluation"
        users = np.array(sorted(keys.values()), dtype=object)
        result = SliceResult(users, np.ones(3, dtype=np.int64), np.zeros((3, 1, len(metric_names(10)))))
        Evaluation(10, ("candidate",), {"all": result, "cold": result}, {}, {}).save(folder / "held_out")
        track_evaluation(settings, run_id, Evaluation.load(folder / "held_out"), folder)
        runs[run_id] = folder
    return runs


def _in_mlflow(settings, run_id, tmp_path):
    path = mlflow_client(settings).download_artifacts(run_id, "evaluation", str(tmp_path))
    return users_of_evaluation(type(tmp_path)(path))


def test_an_erased_user_is_removed_from_all_evaluations(warehouse, settings, evaluated, keys, tmp_path):
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO users (user_id) SELECT unnest(cast(:u as text[]))"), {"u": [*USERS]}
        )
    fill_user_keys(warehouse, settings.require_pseudonym_key())
    request_erasure(warehouse, "anna")
    [receipt] = erase_requested(warehouse, settings.snapshots, partial(erase_from_evaluations, settings))
    # Two slices, two runs, on disk and in MLflow.
    assert receipt.evaluation_rows_removed == 8
    for number, (run_id, folder) in enumerate(evaluated.items()):
        left = {keys["ben"], keys["cleo"]}
        assert users_of_evaluation(folder) == left
        assert _in_mlflow(settings, run_id, tmp_path / str(number)) == left
        assert Evaluation.load(folder / "held_out").users == 2
    assert erase_from_evaluations(settings, [keys["anna"]]) == {}


def test_an_erasure_request_stays_open_while_mlflow_does_not_answer(warehouse, settings, evaluated, keys):
    with warehouse.begin() as connection:
        connection.execute(sa.text("INSERT INTO users (user_id) VALUES ('anna')"))
    fill_user_keys(warehouse, settings.require_pseudonym_key())
    request_erasure(warehouse, "anna")
    away = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    assert erase_requested(warehouse, settings.snapshots, partial(erase_from_evaluations, away)) == []
    for folder in evaluated.values():
        assert keys["anna"] not in users_of_evaluation(folder)
    [receipt] = erase_requested(warehouse, settings.snapshots, partial(erase_from_evaluations, settings))
    assert receipt.evaluation_rows_removed == 4


def test_a_change_of_the_key_removes_all_users(settings, evaluated, keys, tmp_path):
    removed = erase_from_evaluations(settings, None)
    assert removed == dict.fromkeys(keys.values(), 8)
    [run_id, *_], [folder, *_] = list(evaluated), list(evaluated.values())
    assert users_of_evaluation(folder) == _in_mlflow(settings, run_id, tmp_path / "fetched") == set()
    assert pq.read_schema(folder / "held_out" / "per_user.parquet").names[:3] == [
        "slice",
        "user_key",
        "cases",
    ]


def test_a_user_can_be_removed_from_one_evaluation_only(settings, evaluated, keys):
    [(run_id, folder), (_, other)] = evaluated.items()
    assert erase_from_evaluation(settings, run_id, folder, [keys["ben"]]) == {keys["ben"]: 4}
    assert keys["ben"] not in users_of_evaluation(folder)
    assert keys["ben"] in users_of_evaluation(other)


def test_files_on_disk_are_erased_without_mlflow(settings, evaluated, keys):
    alone = settings.model_copy(update={"mlflow_tracking_uri": None})
    assert erase_from_evaluations(alone, [keys["cleo"]]) == {keys["cleo"]: 4}


def test_a_run_has_the_main_figures_as_metrics_and_all_others_in_its_files(
    settings, make_training, lineage, tmp_path
):
    users = np.array(["a"], dtype=object)
    result = SliceResult(users, np.ones(1, dtype=np.int64), np.ones((1, 2, len(metric_names(10)))))
    slices = dict.fromkeys(["all", "item.brand:H&M", "item.path:../../a//b", "user.emoji:🎉"], result)
    figures = tuple(
        Figure(scorer, name, "ndcg_at_10", 0.1, 0.1, 0.1, 1)
        for name in slices
        for scorer in ("candidate", "popularity")
    )
    evaluation = Evaluation(10, ("candidate", "popularity"), slices, {}, {}, figures=figures)
    folder = tmp_path / "evaluation"
    evaluation.save(folder / "held_out")
    run_id = track_training(settings, "nightly:1", make_training("nightly:1"), lineage)
    track_evaluation(settings, run_id, Evaluation.load(folder / "held_out"), folder)
    client = mlflow_client(settings)
    logged = client.get_run(run_id).data.metrics
    assert set(logged) == {"training_seconds", "curve/validation_ndcg", "curve/loss", "ndcg_at_10"}
    fetched = client.download_artifacts(run_id, "evaluation/held_out", str(tmp_path))
    assert Evaluation.load(type(tmp_path)(fetched)).figures == figures
