"""Publish in shards: plan them, stage each in any process on any machine, and swap all in one transaction.

The lists are those of `publish`. A shard is a range of the plan's users that begins where a batch of
`publish` begins, so every user is scored in the same company; what is drawn by chance depends on user and run
only. Catalogue, champion, watermark, moment and settings are the plan's.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from recsys.errors import ConfigurationError, NothingToDoError, PublicationConflictError
from recsys.memory import require_memory
from recsys.promotion import ledger
from recsys.publishing import publish as publishing
from recsys.publishing.arms import divide
from recsys.publishing.histories import read_catalogue
from recsys.publishing.plans import (
    Attempt,
    Plan,
    claim,
    close_plans,
    empty_plan_tables,
    load_plan,
    lost_what_was_staged,
    open_plan,
    require_complete,
    use_plan,
)
from recsys.publishing.prepare import Prepared, prepare, published_by
from recsys.publishing.publish import SWAP, PublishSummary, stage_scores, summarise
from recsys.publishing.score import BatchScorer
from recsys.publishing.servable import Servable, load_planned, load_planned_on_cpu, load_servable
from recsys.publishing.staging import PLAN_VIEWS, SHARD_TABLES, publishing_session, staging_session
from recsys.settings import Settings
from recsys.snapshot.catalogue import Catalogue
from recsys.warehouse.statements import read_statement

logger = logging.getLogger(__name__)

Load = Callable[[Settings, str], Servable]
MOST_SHARDS = 1_024
"""Airflow maps no task more often, unless its setting `max_map_length` is raised."""
_ATTEMPTS = 2


def publish_or_plan(
    engine: sa.Engine,
    settings: Settings,
    *,
    scope: Literal["all", "affected", "auto"] = "auto",
    run_key: str,
    users_per_shard: Callable[[int], int],
    load: Load = load_servable,
    now: datetime | None = None,
    everyone_after: timedelta | None = None,
    before_plan: Callable[[Prepared], None] = lambda _: None,
) -> "PublishSummary | ShardWorker":
    """Publish at once, like `publish`, or plan shards if there are more users than one holds.

    In the latter case return a worker for the plan, which has loaded the champion already.

    Parameters
    ----------
    users_per_shard
        Takes the number of users; returns how many a shard may hold. Rounded down to whole batches, but at
        least one.
    scope, run_key, load, now, everyone_after
        As in `publish`. The plan of a run is found again by its key.
    before_plan
        Called before a plan is made.

    Raises
    ------
    NothingToDoError, PublicationConflictError, ConfigurationError
        As in `publish`.
    ConfigurationError
        There would be more than `MOST_SHARDS` shards.
    """
    started, moment = time.monotonic(), now or datetime.now(UTC)
    with publishing_session(engine, run_key=run_key) as connection:
        recorded = published_by(connection, run_key)
        if recorded is not None:
            return summarise(recorded, started)
        known = open_plan(connection)
        if known is not None:
            logger.info("run %s is planned already", run_key)
            return ShardWorker(settings, load_plan(connection, known.plan_id), load)
        for _ in range(_ATTEMPTS):
            prepared = prepare(
                engine,
                connection,
                settings,
                scope=scope,
                load=load,
                moment=moment,
                everyone_after=everyone_after,
            )
            size = publishing.whole_batches(users_per_shard(prepared.users))
            if prepared.users > size:
                before_plan(prepared)
                return _plan(connection, settings, prepared, run_key, size, load)
            publication = publishing.publish_prepared(engine, connection, settings, prepared, run_key)
            if publication is not None:
                return summarise(publication, started)
    raise PublicationConflictError("the champion changed twice during scoring; publish again")


def _plan(
    connection: sa.Connection,
    settings: Settings,
    prepared: Prepared,
    run_key: str,
    users_per_shard: int,
    load: Load,
) -> "ShardWorker":
    """Keep what this session has staged for all shards, with the catalogue as it is, and open the plan."""
    shards = -(-prepared.users // users_per_shard)
    if shards > MOST_SHARDS:
        raise ConfigurationError(
            f"{prepared.users} users would be {shards} shards of {users_per_shard}, and a task can be mapped "
            f"{MOST_SHARDS} times at most; set RECSYS_PUBLISHING__USERS_PER_SHARD to at least "
            f"{-(-prepared.users // MOST_SHARDS)}"
        )
    challenger = prepared.challenger
    empty_plan_tables(connection)
    with connection.begin():
        plan_id = connection.scalar(
            sa.text(read_statement("publishing/insert_plan")),
            {
                "run_key": run_key,
                "model_version": prepared.champion.model_version,
                "champion_sequence": prepared.champion.sequence,
                "everyone": prepared.everyone,
                "through_transaction_id": prepared.through,
                "moment": prepared.moment,
                "settings": settings.publishing.model_dump_json(),
                "users": prepared.users,
                "items": prepared.items,
                "users_per_shard": users_per_shard,
                "serving_bytes": sum(prepared.serving_bytes.values()),
                "experiment_id": prepared.experiment_id,
                "challenger": challenger and challenger.version,
                "challenger_first": challenger and challenger.first,
            },
        )
    assert plan_id is not None
    use_plan(connection, plan_id)
    with connection.begin():
        connection.exec_driver_sql(
            "insert into staging.catalogue (item_id, title, description, attributes, available, rest_days,"
            " available_from, available_until, variant_of) " + read_statement("snapshot/select_items")
        )
    worker = ShardWorker(settings, load_plan(connection, plan_id), load)
    scorer = worker.keep(connection, prepared.champion.model_version, prepared.servable)
    publishing.stage_catalogue_vectors(connection, settings, prepared, scorer, worker.device)
    with connection.begin():
        connection.exec_driver_sql(read_statement("publishing/keep_staged_for_plan"))
        connection.exec_driver_sql(read_statement("publishing/open_plan"))
    logger.info("planned %d shards of %d users", shards, users_per_shard)
    worker.plan = load_plan(connection, plan_id)
    return worker


def stage_shard(
    engine: sa.Engine,
    settings: Settings,
    plan_id: int,
    shard: int,
    *,
    load: Load = load_planned,
    load_on_cpu: Load = load_planned_on_cpu,
) -> None:
    """Score the users of a shard and stage their lists, pools and vectors; a shard that is staged stays.

    Parameters
    ----------
    load, load_on_cpu
        As in `ShardWorker`.

    Raises
    ------
    NothingToDoError
        The champion has been replaced, another attempt has taken the shard, or the plan is closed.
    WarehouseError
        What was staged of the plan is lost.
    ConfigurationError
        The catalogue does not fit into memory.
    RegistryError
        The model returns NaN or infinite scores.
    """
    with staging_session(engine, SHARD_TABLES) as connection:
        plan = load_plan(connection, plan_id)
        use_plan(connection, plan_id)
        if plan.state != "published":
            require_champion(engine, plan)
        taken = claim(connection, plan_id, shard)
        if taken is None:
            logger.info("shard %d of plan %d is staged already", shard, plan_id)
        else:
            ShardWorker(settings, plan, load, load_on_cpu).stage(connection, taken)


class ShardWorker:
    """Stages shards of one plan, one after the other; it loads catalogue and model for the first one.

    Parameters
    ----------
    settings
        Its publishing section is replaced by the plan's.
    plan
        What is staged.
    load
        Loads a model version, on a GPU if there is one.
    load_on_cpu
        The same, when the GPU fails.
    """

    def __init__(
        self, settings: Settings, plan: Plan, load: Load, load_on_cpu: Load = load_planned_on_cpu
    ) -> None:
        self.plan = plan
        self._settings = settings.model_copy(update={"publishing": plan.publishing})
        self._load, self._load_on_cpu = load, load_on_cpu
        self._catalogue: Catalogue | None = None
        self._scorers: dict[str, BatchScorer] = {}
        self.device = "cpu"

    def keep(self, connection: sa.Connection, version: str, servable: Servable) -> BatchScorer:
        """Keep a version that is loaded already for the shards; return its scorer on the plan's catalogue."""
        if self._catalogue is None:
            self._catalogue = read_catalogue(connection, "publishing/select_planned_items")
        model, self.device = servable.on_catalogue(self._catalogue)
        scorer = BatchScorer(model, self.plan.publishing, servable.explain, self.plan.moment)
        self._scorers[version] = scorer
        return scorer

    def stage(self, connection: sa.Connection, taken: Attempt) -> None:
        """Stage a shard in a session with `SHARD_TABLES`; its errors are those of `stage_shard`."""
        try:
            self._stage(connection, taken)
        except RuntimeError as error:
            if self.device == "cpu":
                raise
            # A process whose GPU has failed cannot use it again, but the processor is still there.
            logger.warning(
                "the GPU has failed in shard %d of plan %d, which goes on on the CPU: %s",
                taken.shard,
                taken.plan_id,
                str(error).partition("\n")[0],
            )
            connection.rollback()
            self._scorers, self._load = {}, self._load_on_cpu
            again = claim(connection, taken.plan_id, taken.shard)
            if again is not None:
                self._stage(connection, again)

    def _stage(self, connection: sa.Connection, taken: Attempt) -> None:
        plan = self.plan
        self._stage_users(connection, taken)
        champions, challengers = divide(taken.first, taken.last, plan.challenger_first)
        for version, (first, last) in ((plan.model_version, champions), (plan.challenger, challengers)):
            if version is None or first == last:
                continue
            own = self._scorer(connection, version)
            scorer, against = own, None
            if plan.interleaved and version == plan.challenger:
                scorer, against = self._scorer(connection, plan.model_version), own
            stage_scores(
                connection,
                self._settings,
                scorer,
                against=against,
                first=first,
                last=last,
                through=plan.through_transaction_id,
                run_key=plan.run_key,
                moment=plan.moment,
                before_write=lambda: taken.keep(connection, self.device),
            )
        with connection.begin():
            taken.keep(connection, self.device, "staged")
        logger.info("staged shard %d of plan %d on %s", taken.shard, plan.plan_id, self.device)

    def _scorer(self, connection: sa.Connection, version: str) -> BatchScorer:
        if version in self._scorers:
            return self._scorers[version]
        require_memory(
            f"staging a shard of {self.plan.items} items with version {version}",
            {"model and catalogue": self.plan.serving_bytes},
            "let fewer shards run at once on a machine (AIRFLOW__CORE__PARALLELISM, "
            "AIRFLOW__CELERY__WORKER_CONCURRENCY or `recsys publish --processes`)",
        )
        servable = self._load(self._settings, version)
        self.device = servable.device
        return self.keep(connection, version, servable)

    def _stage_users(self, connection: sa.Connection, taken: Attempt) -> None:
        with connection.begin():
            connection.exec_driver_sql("truncate staged_users")
            staged = connection.execute(
                sa.text(read_statement("publishing/stage_users_of_shard")),
                {"first": taken.first, "last": taken.last},
            ).rowcount
            connection.exec_driver_sql("analyze staged_users")
        if staged != taken.last - taken.first:
            raise lost_what_was_staged(taken.plan_id, [taken.shard])


def swap_shards(engine: sa.Engine, plan_id: int) -> PublishSummary:
    """Replace what is published by what the shards of a plan have staged, in one transaction.

    Raises
    ------
    WarehouseError
        Shards are missing; they are named.
    NothingToDoError
        The champion has been replaced, or another publication has taken the plan's place.
    """
    started = time.monotonic()
    with engine.connect() as connection:
        plan = load_plan(connection, plan_id)
    with publishing_session(engine, run_key=plan.run_key, tables=PLAN_VIEWS) as connection:
        recorded = published_by(connection, plan.run_key)
        if recorded is not None:
            return summarise(recorded, started)
        use_plan(connection, plan_id)
        if load_plan(connection, plan_id).state != "staging":
            raise NothingToDoError(
                f"plan {plan_id} is closed: another publication has taken its place; clear the task publish "
                "to plan once more"
            )
        champion = require_champion(engine, plan)
        connection.exec_driver_sql(read_statement("publishing/analyze_plan_tables"))
        connection.commit()
        require_complete(connection, plan)
        publication = publishing.swap(
            engine,
            connection,
            champion,
            plan.run_key,
            ("publishing/finish_plan", *SWAP),
            plan.through_transaction_id,
            plan.everyone,
            plan.experiment_id,
        )
        if publication is None:
            close_plans(connection)
            raise _replaced(plan)
        empty_plan_tables(connection)
        return summarise(publication, started)


def require_champion(engine: sa.Engine, plan: Plan) -> ledger.Champion:
    """Return the champion; raise NothingToDoError if it is not the one that the plan was made for."""
    champion = ledger.champion(engine)
    if champion is None or champion.sequence != plan.champion_sequence:
        raise _replaced(plan)
    return champion


def _replaced(plan: Plan) -> NothingToDoError:
    return NothingToDoError(
        f"version {plan.model_version} was replaced as champion, or an experiment has started or ended, "
        f"while plan {plan.plan_id} was staged; the next publication replaces all lists"
    )
