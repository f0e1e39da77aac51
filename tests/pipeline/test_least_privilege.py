"""A day of the loop under the roles that docker-compose.yaml uses: a right that is missing ends it."""

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from recsys.errors import NothingToDoError, TrainingError
from recsys.evaluation.ranking.user_attributes import read_user_attributes
from recsys.experiments.experiment import start
from recsys.pipeline import deciding, experimenting, feedback, housekeeping, publishing, tuning
from recsys.pipeline.context import Context, Run, open_context
from recsys.promotion import ledger
from recsys.promotion.promote import promote
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training
from recsys.registry.versions import download_model
from recsys.settings import Settings
from recsys.snapshot.read import read_snapshot
from recsys.training.result import TrainingResult
from recsys.tuning.search import begin_trial, end_trial, load_search, record_curve
from recsys.upkeep.erasure import request_erasure
from recsys.upkeep.key_rotation import rotate_user_keys
from recsys.validation.quarantine import discard, list_quarantined, release_by_reason
from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.erased_users import readmit
from recsys.warehouse.ingest import ingest_file
from recsys.warehouse.roles import PAGE, PIPELINE
from tests.registry_fixtures import ITEMS

pytestmark = pytest.mark.usefixtures("mlflow_database")

_PLUGIN = Path(__file__).parents[2] / "plugins" / "recommender_page.py"


@pytest.fixture
def log_in(warehouse: sa.Engine) -> Iterator[Callable[[str], str]]:
    """Make a login with the rights of one role in the warehouse; return its URL."""
    install_analytics(warehouse)
    made: list[str] = []

    def make(role: str) -> str:
        made.append(f"login_of_{role}_{warehouse.url.database}")
        with warehouse.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {made[-1]} LOGIN IN ROLE {role}")
        return warehouse.url.set(username=made[-1]).render_as_string(hide_password=False)

    yield make
    with warehouse.begin() as connection:
        for name in made:
            connection.exec_driver_sql(f"DROP ROLE {name}")


@pytest.fixture
def pipeline(settings: Settings, log_in: Callable[[str], str]) -> Settings:
    """Settings with which a worker of the deployment connects."""
    return settings.model_copy(update={"warehouse_url": SecretStr(log_in(PIPELINE))})


def _write_world(folder: Path) -> tuple[Path, Path]:
    items, events = folder / "items.jsonl", folder / "feedback.csv"
    items.write_text("".join(json.dumps({"item_id": i, "title": i.title()}) + "\n" for i in ITEMS))
    rows = [
        f"e{n},user {n % 8},{ITEMS[(n * 5 + n // 8) % len(ITEMS)]},rating,{1 + n % 5},"
        f"2026-03-{1 + n // 24:02}T{n % 24:02}:00:00Z"
        for n in range(240)
    ]
    rows += [f"bad{n},user {n},no item {n},rating,3,2026-03-02T11:00:00Z" for n in (1, 2)]
    events.write_text("\n".join(["event_id,user_id,item_id,event_type,value,occurred_at", *rows]) + "\n")
    return items, events


def _challenge(context: Context, train: Callable[..., TrainingResult], kind: str, bias: float) -> str:
    """Take the stages from an open window to a registered version; the model is not trained."""
    settings, engine, run = context.settings, context.engine, context.run
    window = feedback.validate(context, feedback.open_window(context))
    take = feedback.take_full_snapshot if kind == "full" else feedback.take_micro_snapshot
    lineage = take(context, window)
    snapshot = read_snapshot(lineage.snapshot)
    training = dataclasses.replace(
        train(run.key, kind=kind, bias=bias), trained_through=snapshot.trained_through
    )
    read_user_attributes(engine, ("age",))
    run_id = track_training(settings, run.key, training, lineage)
    registered = register_version(
        settings, run_id=run_id, run_key=run.key, training=training, lineage=lineage
    )
    ledger.record_decision(
        engine, action="hold", version=registered.version, reason="x", explanation="x", actor="t"
    )
    return registered.version


def test_the_pipeline_runs_a_day_as_a_member_of_its_role(
    pipeline: Settings,
    make_training: Callable[..., TrainingResult],
    tmp_path: Path,
    warehouse: sa.Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items, events = _write_world(tmp_path)
    with open_context(Run("nightly_training", "nightly/1"), pipeline) as context:
        engine = context.engine
        ingest_file(engine, "items", items)
        assert ingest_file(engine, "feedback", events).inserted == 242
        first = _challenge(context, make_training, "full", 0.1)
        promote(engine, pipeline, first, None, reason="x", explanation="x", actor="t")
        assert publishing.publish_at_once(context).users == 8
        publishing.refresh_analytics(context)
        (held, *_) = list_quarantined(engine, limit=10)
        discard(engine, held.quarantine_id, "test")
        release_by_reason(engine, "unknown_item", "test")
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO feedback (user_id, item_id, event_type, value, occurred_at)"
                " SELECT 'user ' || mod(n, 8), 'item' || mod(n, 12), 'rating', 5,"
                " now() - make_interval(mins => n) FROM generate_series(1, 40) AS n"
            )
    with open_context(Run("hourly_micro_update", "hourly/1"), pipeline) as context:
        update = _challenge(context, make_training, "micro", 0.2)
        promote(context.engine, pipeline, update, first, reason="x", explanation="x", actor="t")
        monkeypatch.setattr("recsys.publishing.publish.BATCH_USERS", 4)
        in_shards = pipeline.model_copy(
            update={"publishing": pipeline.publishing.model_copy(update={"users_per_shard": 4})}
        )
        context = dataclasses.replace(context, settings=in_shards)
        shards = publishing.publish(context)
        assert len(shards) == 2
        for shard in shards:
            publishing.stage_shard(context, shard)
        assert publishing.swap_shards(context, shards).users == 8
        download_model(pipeline, update, tmp_path / "served")
    with open_context(Run("tune_recommender", "search/1"), pipeline) as context:
        trials = tuning.begin_search(context)
        search = load_search(context.engine, "search/1")
        trial = begin_trial(context.engine, search, trials[0].number, lambda _: search.present)
        record_curve(context.engine, search, trial, [0.1])
        end_trial(context.engine, search, trial, "failed", explanation="x")
        with pytest.raises(TrainingError, match="every trial failed"):
            tuning.confirm_winner(context)
    with open_context(
        Run("roll_back_model", "roll_back/1", params={"reason": "worse", "version": None}), pipeline
    ) as context:
        assert deciding.roll_back(context).version == first
        assert publishing.publish(context) == []
    with open_context(Run("experiment_readout", "readout/1"), pipeline) as context:
        start(context.engine, pipeline, "first", update, share=0.5, actor="t", now=context.clock())
        assert publishing.publish_at_once(context).scope == "all"
        with context.engine.connect() as connection:
            shown = connection.exec_driver_sql("SELECT DISTINCT model_version FROM recommendation_lists")
            assert set(shown.scalars()) == {first, update}
        assert experimenting.read_experiment(context).outcome == "running"
    retiring = pipeline.model_copy(
        update={
            "retention": pipeline.retention.model_copy(update={"feedback_months": 1, "impressions_months": 1})
        }
    )
    with open_context(Run("warehouse_housekeeping", "housekeeping/1"), retiring) as context:
        request_erasure(context.engine, "user 3")
        assert housekeeping.keep_house(context).erasures_done == 1
        with pytest.raises(NothingToDoError, match="no item has new comments"):
            housekeeping.find_item_phrases(context)
        with context.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO feedback (user_id, item_id, event_type)"
                " SELECT 'user ' || n, 'item1', 'dislike' FROM generate_series(0, 7) AS n"
            )
        assert housekeeping.monitor(context).causes > 0
        with context.engine.connect() as connection:
            sent = connection.exec_driver_sql("SELECT cause FROM alerts WHERE sent_at IS NOT NULL").scalars()
            assert "disliked item: item1" in set(sent)
        assert housekeeping.reconcile_registry(context) == first
        housekeeping.prune_registry(context)
        readmit(context.engine, "user 3", pipeline.tombstone_keys())
        rotate_user_keys(context.engine, pipeline)
        with context.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT outcome FROM experiments").scalar() == "keys_replaced"
    owned = sa.text("SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) LIKE 'login_of_%'")
    with warehouse.connect() as connection:
        assert connection.scalar(owned) == 0


def test_the_page_shows_everything_as_a_member_of_its_role_and_can_do_nothing_else(
    log_in: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = log_in(PAGE)
    monkeypatch.setenv("RECSYS_WAREHOUSE_URL", url)
    spec = importlib.util.spec_from_file_location("recommender_page", _PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)

    for queries, parameters in (
        (plugin._QUERIES, {}),
        (plugin._DATA_DOCS_QUERIES, {"window_id": 1}),
        (plugin._WINDOW_OF_RUN, {"run": "x"}),
    ):
        status, content = plugin.query_warehouse(queries, **parameters)
        assert (status, content["slow"]) == (200, []), content

    engine = sa.create_engine(url)
    for statement in (
        "SELECT user_id FROM feedback",
        "SELECT user_id FROM users",
        "SELECT files FROM model_files",
        "SELECT feedback FROM quarantine",
        "UPDATE windows SET valid = 0",
        "SELECT pg_advisory_lock(1)",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
    engine.dispose()
