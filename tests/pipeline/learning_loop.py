"""A state machine of the learning loop: nights, hours, rollbacks, people and kills in any order.

The stages of the DAGs run step by step on real Postgres and MLflow. Only three are replaced: Great
Expectations (the quarantine itself is real), training, which writes down what it would learn from the real
snapshot, and evaluation with its gate, whose decision is drawn.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pydantic import SecretStr

from recsys.columns import Columns, Purpose
from recsys.errors import NothingToDoError, RegistryError
from recsys.pipeline import deciding, housekeeping
from recsys.pipeline import feedback as feedback_stages
from recsys.pipeline.context import Context, Run
from recsys.pipeline.references import Decided, NewChampion, OpenedWindow, ValidatedWindow
from recsys.promotion import ledger, promote
from recsys.promotion import roll_back as rollback
from recsys.promotion.decision import Decision, Response
from recsys.registry import registration, tracking, versions
from recsys.registry.connection import mlflow_client
from recsys.registry.lineage import Lineage
from recsys.settings import Settings
from recsys.snapshot import full, micro, reservoir
from recsys.snapshot.guard import are_guard_users
from recsys.snapshot.read import read_snapshot
from recsys.snapshot.reference import TrainedThrough
from recsys.training.result import TrainingResult
from recsys.validation.quarantine import quarantine_window
from recsys.validation.rules import row_rules
from recsys.warehouse import windows
from recsys.warehouse.pseudonyms import user_key
from recsys.warehouse.tables import feedback, items, users

NIGHT, HOUR = "nightly_training", "hourly_micro_update"
USERS = [f"user {number}" for number in range(8)]
START = datetime(2026, 3, 1, tzinfo=UTC)
RULES = row_rules()
_NEW = (Purpose.FRESH, Purpose.FRESH_GUARD)
# Where a stage can die: before or after these.
DEATHS: dict[str, list[tuple[ModuleType, str]]] = {
    "open_window": [(windows, "_window")],
    "take_snapshot": [
        (full, "record_snapshot"),
        (micro, "record_snapshot"),
        (reservoir, "sample_reservoir"),
        (micro, "write_recent_replay"),
        (reservoir, "record_snapshot"),
    ],
    "train": [(tracking, "find_or_create_run"), (tracking, "_log_dataset")],
    "register": [
        (registration, "_log_model"),
        (registration, "_ensure_registered_model"),
        (registration, "registered_version"),
    ],
    "promote": [(ledger, "_insert"), (promote, "follow_ledger"), (promote, "tag_version")],
}
_names = (f"loop_{number}" for number in itertools.count())
_steps = st.sampled_from([7, 6, 4, 3, 1])
_death = st.none() | st.none() | st.tuples(st.integers(0, 9), st.booleans())
_decision = st.sampled_from(["promote", "promote", "promote", "hold", "reject", "ask"])


class Killed(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class Trained:
    """A training run that only wrote down what it would learn."""

    lineage: Lineage
    training: TrainingResult
    mlflow_run: str
    learned: list[int]
    opponent: str | None


@dataclass(frozen=True)
class Registered:
    """A registered version and the one that it is compared with."""

    version: str
    opponent: str | None


class World:
    """What all examples share."""

    new_warehouse: Callable[[str], str]
    settings: Settings


class LearningLoop(RuleBasedStateMachine):
    """At most one night and one hour at a time, as `max_active_runs` has it; people at any time."""

    def __init__(self) -> None:
        super().__init__()
        name = next(_names)
        url = World.new_warehouse(name)
        self.settings = World.settings.model_copy(
            update={
                "warehouse_url": SecretStr(url),
                "registered_model": name,
                "home": World.settings.home / name,
            }
        )
        self.engine = sa.create_engine(url)
        self.guards = {user for user, guards in zip(USERS, self._are_guards(), strict=True) if guards}
        self.numbers = itertools.count()
        self.open: dict[str, tuple[Context, int, list[Any]]] = {}
        self.learned: dict[str, set[int]] = {}
        self.parents: dict[str, str | None] = {}
        self.opponents: dict[str, str | None] = {}
        self.registered: dict[str, str] = {}
        """The version of each run."""
        self.champions: list[str] = []
        with self.engine.begin() as connection:
            connection.execute(items.insert(), [{"item_id": item, "title": item} for item in "abcde"])
            connection.execute(users.insert(), [{"user_id": user} for user in USERS])

    # What happens

    @initialize(night=st.sampled_from([True, True, False]))
    def the_loop_begins(self, night: bool) -> None:
        self.feedback_arrives([*range(8), *range(8)], late=False, broken=False)
        while night and self._step(NIGHT, "promote", None):
            pass

    @rule(who=st.lists(st.integers(0, 7), min_size=3, max_size=8), late=st.booleans(), broken=st.booleans())
    def feedback_arrives(self, who: list[int], late: bool, broken: bool) -> None:
        with self.engine.begin() as connection:
            for number in who:
                moment = next(self.numbers)
                values = {
                    "user_id": USERS[number],
                    "item_id": "nothing" if broken and number == who[0] else "abcde"[moment % 5],
                    "event_type": "like",
                    "occurred_at": START + timedelta(minutes=moment - (500 if late else 0)),
                }
                connection.execute(feedback.insert().values(values))

    @rule(steps=_steps, death=_death, decision=_decision)
    def a_night_goes_on(self, steps: int, death: tuple[int, bool] | None, decision: str) -> None:
        self._go_on(NIGHT, steps, death, decision)

    @rule(steps=_steps, death=_death, decision=_decision)
    def an_hour_goes_on(self, steps: int, death: tuple[int, bool] | None, decision: str) -> None:
        self._go_on(HOUR, steps, death, decision)

    @rule(what=st.sampled_from(["housekeeping", "rollback", "retried rollback", "killed rollback"]))
    def somebody_steps_in(self, what: str) -> None:
        if what == "housekeeping":
            self.housekeeping()
        else:
            self._roll_back(killed="killed" in what, again=what != "rollback")

    # What must hold

    @invariant()
    def champions_form_one_line(self) -> None:
        changes = [row for row in reversed(ledger.history(self.engine, 1_000)) if row.champion_sequence]
        assert [row.champion_sequence for row in changes] == list(range(1, len(changes) + 1))
        before = [None, *(row.model_version for row in changes)]
        assert [row.previous_champion for row in changes] == before[: len(changes)]
        runs = [row.run_key for row in changes]
        assert len(runs) == len(set(runs)), f"a run has changed the champion twice: {runs}"
        for row in changes:
            if row.action == "promote":
                compared_with = self.opponents[row.model_version]
                assert row.previous_champion == compared_with, (
                    f"version {row.model_version} was compared with {compared_with} and has replaced "
                    f"{row.previous_champion}"
                )

    def teardown(self) -> None:
        try:
            for dag in (NIGHT, HOUR):
                while self._step(dag, "promote", None):
                    pass
            self.housekeeping()
            self.champions_form_one_line()
            assert self._versions() == self.learned.keys(), "a version belongs to no run"
            for version in self.learned:
                self._check_chain(version)
            # Whatever was held, rejected or rolled back: the next night has all of it.
            self.feedback_arrives([0, 1, 2], late=False, broken=False)
            while self._step(NIGHT, "promote", None):
                pass
            newest = max(self.learned, key=int)
            assert self.parents[newest] is None
            self._check_chain(newest)
        finally:
            self.engine.dispose()

    def _check_chain(self, version: str) -> None:
        """Along a chain of models all sound feedback was learned once: but for guard users between nights."""
        chain = [version]
        while (parent := self.parents[chain[-1]]) is not None:
            chain.append(parent)
        taught = [self.learned[model] for model in chain]
        assert sum(map(len, taught)) == len(set().union(*taught)), f"something was learned twice in {chain}"
        should = self._sound_below(self._through(version))
        full_night = self._sound_below(self._through(chain[-1]))
        guarded = {id_ for id_, user in (should | full_night).items() if user in self.guards}
        assert self.learned[chain[-1]] == full_night.keys()
        assert set().union(*taught) == (should.keys() - guarded) | full_night.keys()

    def _check_replay(self, rows: list[dict[str, Any]], parent: TrainedThrough) -> None:
        """Whatever reservoir it came from: an hour replays what its parent knows, never of guard users."""
        known = self._sound_below(parent)
        affected = {row[Columns.USER_KEY] for row in rows if row[Columns.PURPOSE] in _NEW}
        for row in rows:
            if row[Columns.PURPOSE] in (Purpose.REPLAY, Purpose.GUARD):
                user = known[row[Columns.FEEDBACK_ID]]
                assert (user in self.guards) == (row[Columns.PURPOSE] == Purpose.GUARD)
                assert row[Columns.USER_KEY] not in affected

    # How it is done

    def _go_on(self, dag: str, steps: int, death: tuple[int, bool] | None, decision: str) -> None:
        for step in range(steps):
            # The last step of the stretch dies, and is run again when the run goes on.
            if not self._step(dag, decision, death if step == steps - 1 else None):
                return

    def _roll_back(self, *, killed: bool, again: bool) -> None:
        death = (rollback, "follow_ledger", True) if killed else None
        params = {"reason": "x", "version": None}
        run = self._context("roll_back_model", f"rollback/{next(self.numbers)}", **params)
        # The first champion has none before it, and at first there is no champion.
        with self._world(), self._dying(death), contextlib.suppress(Killed, RegistryError):
            deciding.roll_back(run)
        self._note_champion()
        if again:
            with self._world(), contextlib.suppress(RegistryError):
                deciding.roll_back(run)
            self._note_champion()

    def housekeeping(self) -> None:
        with self._world():
            housekeeping.reconcile_registry(self._context("warehouse_housekeeping", "h"))
        current = ledger.champion(self.engine)
        assert self._alias() == (current.model_version if current else None)

    def _step(self, dag: str, action: str, death: tuple[int, bool] | None) -> bool:
        """Run the next stage of the DAG's run, which begins when there is none; False: the run is over."""
        if dag not in self.open:
            self.open[dag] = (self._context(dag, f"{dag}/{next(self.numbers)}"), 0, [])
        context, done, references = self.open[dag]
        names = ["open_window", "validate", "take_snapshot", "train", "register", "gate", "promote"]
        name = names[done]
        points = DEATHS.get(name, [])
        dies = None if death is None or not points else (*points[death[0] % len(points)], death[1])
        with self._world(), self._dying(dies):
            try:
                references.append(getattr(self, f"_{name}")(context, action, *references[-1:]))
            except Killed:
                self._note_champion()
                return True
            except NothingToDoError:
                del self.open[dag]
                self._note_champion()
                return False
        self._note_champion()
        if done + 1 == len(names):
            del self.open[dag]
            return False
        self.open[dag] = (context, done + 1, references)
        return True

    def _context(self, dag: str, key: str, **params: Any) -> Context:
        return Context(Run(dag, key, params=params), self.settings, self.engine)

    def _open_window(self, context: Context, _: str) -> OpenedWindow:
        return feedback_stages.open_window(context)

    def _validate(self, context: Context, _: str, window: OpenedWindow) -> ValidatedWindow:
        with self.engine.begin() as connection:
            quarantine_window(
                connection,
                windows.load_window(self.engine, window.window_id),
                RULES,
                self.settings.validation,
            )
        return ValidatedWindow(
            window_id=window.window_id,
            arrived=window.arrived,
            valid=0,
            quarantined=0,
            duplicates=0,
            data_docs="file:///docs",
        )

    def _take_snapshot(self, context: Context, _: str, window: ValidatedWindow) -> Lineage:
        full = context.run.dag_id == NIGHT
        take = feedback_stages.take_full_snapshot if full else feedback_stages.take_micro_snapshot
        return take(context, window)

    def _train(self, context: Context, _: str, lineage: Lineage) -> Trained:
        run, read = context.run, read_snapshot(lineage.snapshot)
        folder = self.settings.runs / run.key.replace("/", "-")
        (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint" / "manifest.json").write_text(json.dumps({"run": run.key}))
        rows = read.interactions().to_pylist()
        if lineage.parent is not None:
            self._check_replay(rows, self._through(lineage.parent))
        purpose = Purpose.FULL if run.dag_id == NIGHT else Purpose.FRESH
        learned = [
            row[Columns.FEEDBACK_ID]
            for row in rows
            if row[Columns.PURPOSE] == purpose and row[Columns.OCCURRED_AT] < read.held_out_from
        ]
        training = TrainingResult(
            checkpoint=str(folder / "checkpoint"),
            history=str(folder / "history.jsonl"),
            kind="full" if run.dag_id == NIGHT else "micro",
            snapshot_uri=lineage.snapshot.uri,
            snapshot_digest=lineage.snapshot.digest,
            trained_through=read.trained_through,
            epochs=1,
            best_epoch=1,
            seconds=1.0,
            metrics={},
            stopped_because="the test trains nothing",
        )
        mlflow_run = tracking.track_training(self.settings, run.key, training, lineage)
        current = ledger.champion(self.engine)
        opponent = lineage.parent or (current.model_version if current else None)
        return Trained(lineage, training, mlflow_run, learned, opponent)

    def _register(self, context: Context, _: str, trained: Trained) -> Registered:
        run = context.run
        registered = registration.register_version(
            self.settings,
            run_id=trained.mlflow_run,
            run_key=run.key,
            training=trained.training,
            lineage=trained.lineage,
        )
        earlier = self.registered.setdefault(run.key, registered.version)
        assert registered.version == earlier, f"{run.key} has registered {earlier} and {registered.version}"
        through = registered.trained_through.transaction_id
        assert not self._broken_below(through), f"{run.key} has trained on what was not validated"
        self.opponents[registered.version] = trained.opponent
        self.learned[registered.version] = set(trained.learned)
        self.parents[registered.version] = trained.lineage.parent
        return Registered(registered.version, trained.opponent)

    def _gate(self, _: Context, action: str, registered: Registered) -> Decided:
        decision = Decision(action, "drawn", "Drawn.", (), registered.opponent)  # type: ignore[arg-type]
        return Decided(version=registered.version, decision=decision, links={})

    def _promote(self, context: Context, _: str, decided: Decided) -> NewChampion:
        asked = decided.decision.action == "ask"
        return deciding.promote(context, decided, Response("approve", "ann", "now") if asked else None)

    @contextmanager
    def _world(self) -> Iterator[None]:
        def log_model(settings: Settings, run_id: str, run_key: str, checkpoint: Path) -> str:
            client = mlflow_client(self.settings)
            experiment = client.get_run(run_id).info.experiment_id
            model = client.create_logged_model(experiment, "recommender", run_id)
            registration.record_files(settings, model.model_id, run_key, {})
            client.finalize_logged_model(model.model_id, "READY")
            return str(model.model_id)

        with (
            mock.patch.object(registration, "_log_model", log_model),
            mock.patch.object(rollback, "download_checkpoint"),
        ):
            yield

    @contextmanager
    def _dying(self, point: tuple[ModuleType, str, bool] | None) -> Iterator[None]:
        if point is None:
            yield
            return
        module, name, first = point
        original = getattr(module, name)

        def dies(*arguments: Any, **options: Any) -> Any:
            if not first:
                original(*arguments, **options)
            raise Killed

        with mock.patch.object(module, name, dies):
            yield

    def _note_champion(self) -> None:
        current = ledger.champion(self.engine)
        if current is not None and self.champions[-1:] != [current.model_version]:
            self.champions.append(current.model_version)

    def _alias(self) -> str | None:
        found = mlflow_client(self.settings).search_registered_models(
            f"name = '{self.settings.registered_model}'"
        )
        aliases = found[0].aliases if found else {}
        return str(aliases["champion"]) if "champion" in aliases else None

    def _versions(self) -> set[str]:
        name = self.settings.registered_model
        return {
            str(found.version)
            for found in mlflow_client(self.settings).search_model_versions(f"name = '{name}'")
        }

    def _through(self, version: str) -> TrainedThrough:
        return versions.trained_through(self.settings, version)

    def _sound_below(self, through: TrainedThrough) -> dict[int, str]:
        """Return the sound feedback below both bounds, with its user, by id."""
        statement = sa.select(feedback.c.feedback_id, feedback.c.user_id).where(
            feedback.c.item_id != "nothing",
            feedback.c.transaction_id < through.transaction_id,
            feedback.c.occurred_at < through.occurred_before,
        )
        with self.engine.connect() as connection:
            return {row.feedback_id: row.user_id for row in connection.execute(statement)}

    def _broken_below(self, transaction_id: int) -> list[int]:
        """Return the feedback that breaks a rule and is not in quarantine."""
        statement = sa.select(feedback.c.feedback_id).where(
            feedback.c.item_id == "nothing", feedback.c.transaction_id < transaction_id
        )
        with self.engine.connect() as connection:
            return list(connection.scalars(statement))

    def _are_guards(self) -> Any:
        import numpy as np

        keys = [user_key(user, self.settings.require_pseudonym_key()) for user in USERS]
        return are_guard_users(np.array(keys, dtype=object), self.settings.micro_update.guard_share)
