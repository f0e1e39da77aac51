"""No model that knows an erased user is served for longer than the settings say, whatever the gate decides.

The stages of the DAGs run with the learning loop's replacements; only the clock is moved ahead.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from recsys.errors import NothingToDoError
from recsys.pipeline import deciding, housekeeping
from recsys.pipeline import feedback as feedback_stages
from recsys.pipeline.context import Context
from recsys.pipeline.references import Challenger, Decided, OpenedWindow, ValidatedWindow
from recsys.promotion import ledger
from recsys.promotion.decision import Decision
from recsys.promotion.serving_term import serving_terms
from recsys.registry import versions
from recsys.settings import ApprovalSettings, PrivacySettings
from recsys.upkeep.erasure import erase_everywhere, request_erasure
from tests.pipeline.learning_loop import HOUR, NIGHT, USERS, LearningLoop, Registered, World

pytestmark = pytest.mark.usefixtures("mlflow_database")

DAYS = 14
EVERYBODY = [*range(8)]


class DailyLoop(LearningLoop):
    """The learning loop with the real gate stage, whose finding is drawn, and a clock that can be moved."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = timedelta()
        self.alerts: list[str] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def night(self, finding: str) -> None:
        """Run a whole night."""
        while self._step(NIGHT, finding, None):
            pass

    def hour(self, finding: str = "promote") -> None:
        """Run a whole hour."""
        while self._step(HOUR, finding, None):
            pass

    def housekeeping(self) -> None:
        with self._world():
            housekeeping.prune_registry(self._context("warehouse_housekeeping", "h"))

    def champion(self) -> str:
        current = ledger.champion(self.engine)
        assert current is not None
        return current.model_version

    def knows_erased_users(self, version: str) -> bool:
        return bool(serving_terms(self.engine, self.settings, [version]))

    def _context(self, dag: str, key: str, **params: Any) -> Context:
        made = super()._context(dag, key, **params)
        return Context(made.run, made.settings, made.engine, self.now)

    def _validate(self, context: Context, finding: str, window: OpenedWindow) -> ValidatedWindow:
        if window.arrived == 0:
            return feedback_stages.validate(context, window)
        return super()._validate(context, finding, window)

    def _gate(self, context: Context, finding: str, registered: Registered) -> Decided:
        drawn = Decision(finding, "drawn", "Drawn.", (), registered.opponent)  # type: ignore[arg-type]
        kind = "full" if context.run.dag_id == NIGHT else "micro"
        challenger = Challenger(
            version=registered.version, kind=kind, evaluation="nowhere", mlflow_run="none", links={}
        )
        with (
            mock.patch("recsys.evaluation.comparison.Comparison.load"),
            mock.patch("recsys.promotion.gate.decide", return_value=drawn),
            mock.patch("recsys.promotion.report.write_gate_report"),
            mock.patch("recsys.promotion.report.track_gate"),
        ):
            return deciding.gate(context, challenger)

    @contextmanager
    def _world(self) -> Iterator[None]:
        def alert(_: object, text: str) -> bool:
            self.alerts.append(text)
            return True

        with super()._world(), mock.patch("recsys.upkeep.erased_models.send_alert", alert):
            yield


@pytest.fixture
def make_loop(postgres: Any, warehouse_template: str, settings: Any) -> Callable[..., DailyLoop]:
    """Make a loop with a champion of each kind that knows all users, and then erase one of them."""

    def new_warehouse(name: str) -> str:
        postgres.create_database(name, template=warehouse_template)
        return str(postgres.url(name))

    def make(approval: str = "none") -> DailyLoop:
        update = settings.micro_update.model_copy(update={"min_fresh_events": 1, "guard_share": 0.0})
        World.new_warehouse = staticmethod(new_warehouse)
        World.settings = settings.model_copy(
            update={
                "micro_update": update,
                "evaluation": settings.evaluation.model_copy(update={"holdout_share": 0.3}),
                "approval": ApprovalSettings.model_validate({"required_for": approval}),
                "privacy": PrivacySettings(model_erasure_days=DAYS, notice_days=3),
            }
        )
        loop = DailyLoop()
        loop.feedback_arrives(2 * EVERYBODY, late=False, broken=False)
        loop.night("promote")
        loop.feedback_arrives(EVERYBODY, late=False, broken=False)
        loop.night("promote")
        loop.feedback_arrives(EVERYBODY, late=False, broken=False)
        loop.hour()
        assert (loop.champion(), loop.parents["3"]) == ("3", "2")
        assert not loop.knows_erased_users("3")
        request_erasure(loop.engine, USERS[0])
        assert len(erase_everywhere(loop.engine, loop.settings)) == 1
        assert loop.knows_erased_users("3")
        return loop

    return make


def test_a_night_replaces_the_champion_in_time_even_if_its_candidate_is_always_worse(
    make_loop: Callable[..., DailyLoop],
) -> None:
    loop = make_loop()
    days = 0
    while loop.knows_erased_users(loop.champion()):
        days += 1
        assert days < DAYS, "a model that knows an erased user is still served"
        loop.ahead = timedelta(days=days)
        loop.housekeeping()
        loop.feedback_arrives(EVERYBODY[1:], late=False, broken=False)
        loop.hour("reject")
        loop.night("reject")
    entry = ledger.history(loop.engine, 1)[0]
    assert (entry.action, entry.reason) == ("promote", "champion_knows_erased_users")
    assert "Gate: Drawn." in entry.explanation
    assert days == DAYS - 1  # not before it has to be
    assert [text for text in loop.alerts if "the champion has to be replaced: version 3" in text]


def test_without_new_feedback_a_night_still_replaces_the_champion_in_time(
    make_loop: Callable[..., DailyLoop],
) -> None:
    loop = make_loop()
    loop.night("hold")  # takes what arrived in the hour
    loop.ahead = timedelta(days=2)
    loop.night("hold")  # nothing arrived: skipped
    assert set(loop.learned) == {"1", "2", "3", "4"}
    loop.ahead = timedelta(days=DAYS - 2)
    loop.night("hold")
    assert ledger.history(loop.engine, 1)[0].reason == "champion_knows_erased_users"
    assert not loop.knows_erased_users(loop.champion())


def test_after_the_time_is_over_nothing_brings_a_version_that_knows_the_user_back(
    make_loop: Callable[..., DailyLoop],
) -> None:
    loop = make_loop()
    # A candidate that was trained before and waits for its promotion, and two more champions.
    loop.feedback_arrives(EVERYBODY[1:], late=False, broken=False)
    for _ in range(6):
        loop._step(HOUR, "promote", None)
    for _ in range(2):
        loop.feedback_arrives(EVERYBODY[1:], late=False, broken=False)
        loop.night("promote")
    newest = loop.champion()
    before = [row.champion_sequence for row in ledger.history(loop.engine, 100)]
    loop.ahead = timedelta(days=DAYS)
    loop.hour()  # the waiting candidate
    refused = ledger.history(loop.engine, 1)[0]
    assert (refused.action, refused.reason) == ("reject", "trained_on_erased_users")
    assert refused.model_version == "4"
    assert loop.champion() == newest
    # Back to the night before, which does not know the user, and no further.
    loop._roll_back(killed=False, again=False)
    assert (loop.champion(), loop.knows_erased_users(loop.champion())) == ("5", False)
    loop._roll_back(killed=False, again=True)
    assert loop.champion() == "5"
    refused = ledger.history(loop.engine, 1)[0]
    assert (refused.action, refused.reason) == ("reject", "trained_on_erased_users")
    assert "there is no version to go back to. Skipped 3, 2, 1:" in refused.explanation
    assert len(ledger.history(loop.engine, 100)) == len(before) + 3
    loop.housekeeping()
    assert loop._versions() == {"5", "6"}


def test_a_champion_that_is_served_for_too_long_is_kept_but_not_updated(
    make_loop: Callable[..., DailyLoop],
) -> None:
    loop = make_loop()
    loop.ahead = timedelta(days=DAYS + 1)
    loop.housekeeping()
    assert loop._versions() == {"3"}  # there is always a champion
    assert any("That time is over" in text for text in loop.alerts)
    loop.feedback_arrives(EVERYBODY[1:], late=False, broken=False)
    context = loop._context(HOUR, "hour/late")
    window = loop._validate(context, "", feedback_stages.open_window(context))
    with pytest.raises(NothingToDoError, match="not updated until"):
        feedback_stages.take_micro_snapshot(context, window)
    loop.night("reject")
    assert loop.champion() == "4"
    loop.housekeeping()
    assert loop._versions() == {"4"}


def test_in_the_last_night_nobody_is_asked(make_loop: Callable[..., DailyLoop]) -> None:
    loop = make_loop(approval="full")
    loop.feedback_arrives(EVERYBODY[1:], late=False, broken=False)
    loop.ahead = timedelta(days=DAYS - 1)
    loop.night("promote")
    entry = ledger.history(loop.engine, 1)[0]
    assert (entry.action, entry.reason) == ("promote", "champion_knows_erased_users")


def test_the_users_events_are_in_no_model_that_may_be_served(make_loop: Callable[..., DailyLoop]) -> None:
    """What the terms say agrees with what each version has learned."""
    loop = make_loop()
    erased = {
        version: not learned.issubset(
            set(loop._sound_below(versions.trained_through(loop.settings, version)))
        )
        for version, learned in loop.learned.items()
    }
    assert erased == {"1": True, "2": True, "3": True}
    loop.feedback_arrives(EVERYBODY[1:], late=False, broken=False)
    loop.hour()
    loop.night("promote")
    assert loop.knows_erased_users("4")
    assert not loop.knows_erased_users("5")
    sound = set(loop._sound_below(versions.trained_through(loop.settings, "5")))
    assert loop.learned["5"] <= sound
