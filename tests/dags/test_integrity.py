"""DAG files load, say who owns them, and cost the DAG processor next to nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.utils.dag_version_inflation_checker import check_dag_file_stability

from recsys.airflow.defaults import GPU_QUEUE, MODEL_WRITER_POOL
from recsys.pipeline.order import (
    EXPERIMENT,
    HOURLY,
    MONITORING,
    NIGHTLY,
    PUBLISH,
    REFRESH,
    REGISTRY_UPKEEP,
    ROLL_BACK,
    SEARCH,
    SUMMARIES,
    WAREHOUSE_UPKEEP,
    Learning,
    Stage,
)

DAGS_FOLDER = Path(__file__).parents[2] / "dags"
DAG_FILES = sorted(DAGS_FOLDER.glob("*.py"))
HEAVY = ("torch", "transformers", "mlflow", "great_expectations", "pandas", "pyarrow", "matplotlib", "scipy")


def _learning(learning: Learning) -> list[str]:
    until = [stage.__name__ for stage in learning.until_decision]
    return [*until, "approve", learning.promote.__name__, *_names(learning.afterwards)]


def _names(stages: Iterable[Stage]) -> list[str]:
    return [stage.__name__ for stage in stages]


EXPECTED_TASKS = {
    NIGHTLY.dag_id: _learning(NIGHTLY),
    HOURLY.dag_id: _learning(HOURLY),
    "publish_recommendations": _names(
        [PUBLISH.publish, PUBLISH.stage_shard, PUBLISH.swap_shards, *PUBLISH.afterwards]
    ),
    "refresh_active_users": _names(REFRESH),
    "write_summaries": _names(SUMMARIES),
    "warehouse_housekeeping": [*_names(WAREHOUSE_UPKEEP), *_names(MONITORING), *_names(REGISTRY_UPKEEP)],
    "roll_back_model": _names(ROLL_BACK),
    "experiment_readout": _names(EXPERIMENT),
    "tune_recommender": [
        *_names([SEARCH.begin, SEARCH.run_trial, *SEARCH.until_decision]),
        "approve",
        SEARCH.promote.__name__,
    ],
}


@pytest.fixture(scope="module")
def dag_bag() -> DagBag:
    return DagBag(str(DAGS_FOLDER))


@pytest.fixture(params=sorted(EXPECTED_TASKS))
def dag(request: pytest.FixtureRequest, dag_bag: DagBag) -> DAG:
    return dag_bag.dags[request.param]


def test_every_dag_file_imports(dag_bag: DagBag) -> None:
    assert dag_bag.import_errors == {}
    assert sorted(dag_bag.dags) == sorted(EXPECTED_TASKS)


def test_tasks_are_the_stages_in_their_order(dag: DAG) -> None:
    expected = EXPECTED_TASKS[dag.dag_id]
    assert sorted(dag.task_ids) == sorted(expected)
    for task in dag.tasks:
        if task.task_id == "promote":
            assert task.upstream_task_ids == {"gate", "approve"}
        elif task.task_id == "swap_shards":
            assert task.upstream_task_ids == {"publish", "stage_shard"}
        elif dag.dag_id == "publish_recommendations" and task.task_id == "refresh_analytics":
            assert task.upstream_task_ids == {"publish", "swap_shards"}
        elif len(task.upstream_task_ids) > 0:
            assert task.upstream_task_ids == {expected[expected.index(task.task_id) - 1]}
    roots = [task.task_id for task in dag.roots]
    assert expected[0] in roots


def test_dag_has_no_cycle(dag: DAG) -> None:
    dag.check_cycle()


def test_dag_names_its_owner_tags_and_purpose(dag: DAG) -> None:
    assert dag.owner == "recommendations"
    assert "recommender" in dag.tags
    assert dag.doc_md is not None
    assert len(dag.doc_md) > 100


def test_dag_bounds_its_runs(dag: DAG) -> None:
    assert dag.max_active_runs == 1
    assert dag.dagrun_timeout is not None
    assert dag.deadline
    assert not dag.catchup
    assert dag.has_on_failure_callback


def test_every_task_retries_with_back_off_but_not_on_bad_data(dag: DAG) -> None:
    from recsys.errors import ServiceUnavailableError, TrainingError, ValidationFailedError

    for task in dag.tasks:
        assert task.retries == 3
        assert task.retry_exponential_backoff
        assert task.execution_timeout is not None
        decide = task.retry_policy.evaluate
        assert decide(ServiceUnavailableError("away"), 1, 3).action.value == "retry"
        assert decide(ValidationFailedError("bad rows"), 1, 3).action.value == "fail"
        assert decide(TrainingError("NaN loss"), 1, 3).action.value == "fail"
        assert decide(MemoryError(), 1, 3).action.value == "fail"
        assert decide(OSError("disk hiccup"), 1, 3).action.value == "default"


@pytest.mark.parametrize(
    ("dag_id", "expression"),
    [
        ("nightly_training", "0 3 * * *"),
        ("hourly_micro_update", "0 * * * *"),
        ("experiment_readout", "0 * * * *"),
        ("refresh_active_users", "*/10 * * * *"),
        ("warehouse_housekeeping", "30 1 * * *"),
        ("tune_recommender", "0 8 * * 6"),
    ],
)
def test_scheduled_dags_state_their_data_intervals(dag_bag: DagBag, dag_id: str, expression: str) -> None:
    timetable = dag_bag.dags[dag_id].timetable
    assert isinstance(timetable, CronDataIntervalTimetable)
    assert timetable.expression == expression


def test_publishing_follows_the_champion_asset_and_the_clock(dag_bag: DagBag) -> None:
    timetable = dag_bag.dags["publish_recommendations"].timetable
    assert "recsys://registry/champion" in str(timetable.asset_condition)
    assert timetable.timetable.expression == "30 * * * *"
    for dag_id, task_id in [
        ("nightly_training", "promote"),
        ("hourly_micro_update", "promote"),
        ("tune_recommender", "promote"),
        ("roll_back_model", "roll_back"),
    ]:
        outlets = dag_bag.dags[dag_id].get_task(task_id).outlets
        assert [outlet.uri for outlet in outlets] == ["recsys://registry/champion"]


@pytest.mark.parametrize("dag_id", ["nightly_training", "hourly_micro_update"])
def test_a_person_who_does_not_answer_holds_up_a_run_for_less_than_its_time(
    dag_bag: DagBag, dag_id: str
) -> None:
    dag = dag_bag.dags[dag_id]
    approve = dag.get_task("approve")
    assert dag.dagrun_timeout is not None
    assert approve.response_timeout < dag.dagrun_timeout
    assert approve.defaults == ["Reject"]
    assert dag.get_task("promote").trigger_rule == "none_failed_min_one_success"


def test_the_docs_of_a_validation_are_a_button_on_its_task(dag_bag: DagBag) -> None:
    buttons = {
        (dag.dag_id, task.task_id, link.name)
        for dag in dag_bag.dags.values()
        for task in dag.tasks
        for link in task.operator_extra_links
    }
    assert buttons == {
        ("nightly_training", "validate", "Data Docs"),
        ("hourly_micro_update", "validate", "Data Docs"),
    }


def test_only_training_runs_on_the_gpu_queue_and_one_at_a_time(dag_bag: DagBag) -> None:
    writers = {
        (dag.dag_id, task.task_id)
        for dag in dag_bag.dags.values()
        for task in dag.tasks
        if task.pool == MODEL_WRITER_POOL
    }
    assert writers == {("nightly_training", "fine_tune"), ("hourly_micro_update", "micro_update")}
    on_gpu = {
        (dag.dag_id, task.task_id)
        for dag in dag_bag.dags.values()
        for task in dag.tasks
        if task.queue == GPU_QUEUE
    }
    assert on_gpu == writers | {("tune_recommender", "run_trial")}


def test_trials_run_beside_the_writer_of_models_and_as_many_at_once_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RECSYS_TUNING__TRIALS_AT_ONCE", "3")
    trial = DagBag(str(DAGS_FOLDER / "tune_recommender.py")).dags["tune_recommender"].get_task("run_trial")
    assert trial.is_mapped
    assert trial.pool == "default_pool"
    assert trial.max_active_tis_per_dagrun == 3
    assert trial.executor_config["pod_template_file"].endswith("gpu.yaml")


def test_shards_run_side_by_side_and_the_swap_waits_for_all_of_them(dag_bag: DagBag) -> None:
    dag = dag_bag.dags["publish_recommendations"]
    assert dag.get_task("stage_shard").is_mapped
    assert dag.get_task("stage_shard").pool == "default_pool"
    # With nothing to map, both are skipped: `publish` has published.
    assert dag.get_task("swap_shards").trigger_rule == "all_success"
    assert dag.get_task("refresh_analytics").trigger_rule == "none_failed_min_one_success"


def test_shards_run_on_the_gpu_queue_where_the_settings_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_PUBLISHING__QUEUE", "gpu")
    found = DagBag(str(DAGS_FOLDER / "publish_recommendations.py")).dags["publish_recommendations"]
    shards = found.get_task("stage_shard")
    assert (shards.queue, shards.pool) == (GPU_QUEUE, "default_pool")
    assert shards.executor_config["pod_template_file"].endswith("gpu.yaml")
    assert found.get_task("swap_shards").queue == "default"


def test_other_machines_assist_the_fine_tune_beside_the_pool_of_writers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RECSYS_TRAINING__MACHINES", "3")
    monkeypatch.setenv("RECSYS_TRAINING__RENDEZVOUS", "gpu-1:29400")
    found = DagBag(str(DAGS_FOLDER / "nightly_training.py")).dags["nightly_training"]
    assist, first = found.get_task("assist_fine_tune"), found.get_task("fine_tune")
    assert assist.upstream_task_ids == first.upstream_task_ids == {"take_full_snapshot"}
    assert assist.downstream_task_ids == set()
    assert assist.op_kwargs_expand_input.value == {"machine": [2, 3]}
    assert (assist.queue, assist.pool, first.pool) == (GPU_QUEUE, "default_pool", MODEL_WRITER_POOL)
    assert assist.executor_config == first.executor_config
    assert assist.execution_timeout == first.execution_timeout


_SERIALIZE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
dags = DagBag(sys.argv[1]).dags
serialized = {name: DagSerialization.to_dict(dag) for name, dag in dags.items()}
print(json.dumps(serialized, sort_keys=True, default=str))
"""

# Each file is parsed in a fork of a process that has parsed an empty one: only its own imports are measured.
_PARSE = """
import gc, json, multiprocessing, sys, time
from airflow.dag_processing.dagbag import DagBag
def parse(path):
    started = time.process_time()
    bag = DagBag(path)
    spent = time.process_time() - started
    return {"cpu_seconds": spent, "modules": sorted(sys.modules), "errors": bag.import_errors}
empty, *paths = sys.argv[1:]
found = {"empty": parse(empty)}
gc.freeze()  # or collections walk all of Airflow, which takes longer than a file's own imports
with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    found |= zip(paths, pool.map(parse, paths, chunksize=1))
print(json.dumps(found))
"""


def _python(code: str, *arguments: str, **environment: str) -> Any:
    completed = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        # Measuring coverage would cost several times what parsing costs.
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")} | environment,
    )
    return json.loads(completed.stdout.splitlines()[-1])


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_no_value_in_a_dag_file_varies_with_the_parse(path: Path) -> None:
    assert check_dag_file_stability(str(path)).warnings == {}


def test_two_parses_serialize_to_the_same_dag_version() -> None:
    first, second = (_python(_SERIALIZE, str(DAGS_FOLDER), PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert sorted(first) == sorted(EXPECTED_TASKS)
    assert first == second


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What parsing an empty file, and each DAG file after it, costs and loads."""
    empty = tmp_path_factory.mktemp("dags") / "empty_dag.py"
    empty.write_text("from airflow.sdk import DAG\nwith DAG('empty', schedule=None):\n    pass\n")
    return _python(_PARSE, str(empty), *map(str, DAG_FILES))


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_parsing_loads_nothing_heavy_and_costs_little_over_an_empty_dag(path: Path, parsed: Any) -> None:
    dag_file = parsed[str(path)]
    assert dag_file["errors"] == {}
    assert set(HEAVY).isdisjoint(dag_file["modules"])
    # Processor time, not a clock: a busy machine does not change it much.
    assert dag_file["cpu_seconds"] - parsed["empty"]["cpu_seconds"] < 0.3
