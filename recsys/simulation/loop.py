"""The closed loop in fast time: users see published lists and react, and models learn from it, day after day.

Everything except the users, the clock and the scheduler is real. The simulated days end now, because events
from the future are quarantined. All policies meet the same users at the same moments with the same random
numbers, so they differ only in what they show.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from recsys.catalogues.movielens import MovieLens
from recsys.errors import SimulationError
from recsys.pipeline.run import Outcome
from recsys.simulation.application import Application
from recsys.simulation.candidates import Candidate
from recsys.simulation.dag_runs import (
    learn_nightly,
    publish_for_all,
    read_hourly,
    read_nightly,
    run_hourly,
)
from recsys.simulation.nights import let_users_decide, pass_night
from recsys.simulation.off_lists import OffLists, read_event_types
from recsys.simulation.policies import Policy, SimulationSettings
from recsys.simulation.reactions import Luck, simulate_reactions
from recsys.simulation.slates import SlateLog
from recsys.simulation.system import System, Systems
from recsys.simulation.world import World, WorldSettings, make_world

_DAY = timedelta(days=1)
_HISTORY = timedelta(days=14)
_BEFORE_NOW = timedelta(hours=1)
"""Time between the last simulated event and now, for ratings that follow a click."""

Tell = Callable[[str], None]


@dataclass
class Branch:
    """One policy, its system and its results.

    Attributes
    ----------
    off_lists
        What the policy's users have reacted to.
    rewards
        [days, users] expected clicks, which follow from the known tastes.
    clicks
        [days] observed.
    nights, hours
        Outcomes of the training runs.
    candidates
        Of the nights, with their true values.
    """

    policy: Policy
    system: System
    off_lists: OffLists
    rewards: NDArray[np.float64]
    clicks: NDArray[np.int64]
    nights: list[Outcome] = field(default_factory=list)
    hours: list[Outcome] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Simulated:
    """Results of a simulation.

    Attributes
    ----------
    branches
        By policy.
    slates
        [days, users] slates that each user saw, the same for all policies.
    """

    branches: Mapping[str, Branch]
    slates: NDArray[np.int64]


class Simulation:
    """Simulates days of users with one or more policies.

    Parameters
    ----------
    source
        Real ratings and their items.
    settings, behaviour
        Sizes, and the behaviour of users.
    systems
        Makes the systems.
    folder
        For the files that are loaded.
    tell, status
        Receive a line for each event, and the current activity.
    """

    def __init__(
        self,
        source: MovieLens,
        settings: SimulationSettings,
        behaviour: WorldSettings,
        systems: Systems,
        folder: Path,
        tell: Tell,
        status: Tell,
    ) -> None:
        self.settings = settings
        self.world = make_world(source, settings, behaviour)
        self._application = Application(self.world, source.films, folder)
        self._systems = systems
        self._folder = folder
        self._tell, self._status = tell, status
        self._end = datetime.now(UTC).replace(microsecond=0) - _BEFORE_NOW

    def run(self, policies: Sequence[Policy]) -> Simulated:
        """Simulate all days with each policy.

        Raises
        ------
        SimulationError
            The world is too small to train a first model.
        """
        days, world = self.settings.days, self.world
        start, off_lists = self._before_the_first_day()
        branches = {
            policy.name: Branch(
                policy,
                self._systems.copy(start, policy.name),
                off_lists.copy(),
                np.zeros((days, world.users)),
                np.zeros(days, dtype=np.int64),
            )
            for policy in policies
        }
        slates = np.zeros((days, world.users), dtype=np.int64)
        for day in range(1, days + 1):
            world = world.next_day(self._generator("drift", day))
            slates[day - 1] = np.bincount(
                np.concatenate([self._visitors(day, hour) for hour in range(self.settings.hours)]),
                minlength=world.users,
            )
            for branch in branches.values():
                self._live(branch, world, day)
                mean = branch.rewards[day - 1].sum() / max(slates[day - 1].sum(), 1)
                self._tell(f"day {day}, {branch.policy.name}: {mean:.3f} clicks per slate")
        return Simulated(branches, slates)

    def _before_the_first_day(self) -> tuple[System, OffLists]:
        """Show everybody random slates, then train and publish the first champion on the reactions."""
        world, settings = self.world, self.settings
        system = self._systems.make("start")
        clicks = 0
        generator = self._generator("history", 0)
        users = generator.permutation(np.repeat(np.arange(world.users), settings.history_slates))
        there = np.flatnonzero(world.available(0))
        positions = min(settings.positions, len(there))
        with system.engine() as engine:
            self._application.register_users(engine)
            self._application.add_items(engine, 0)
            off_lists = OffLists.of_nobody(read_event_types(engine), world.users, world.items)
            # In parts, to bound memory.
            parts = np.array_split(users, settings.history_slates)
            for number, part in enumerate(parts):
                order = generator.random((len(part), len(there))).argsort(axis=1)[:, :positions]
                log = simulate_reactions(
                    world,
                    part,
                    there[order].astype(np.int32),
                    np.full(order.shape, 1 / len(there)),
                    Luck.draw((len(part), positions), generator),
                    model_version=None,
                    start=self._end - settings.days * _DAY - _HISTORY * (1 - number / len(parts)),
                    prefix=f"history-{number}",
                    every=_HISTORY / len(parts) / (len(part) + 1),
                    off_lists=off_lists,
                )
                log.load(engine, self._folder)
                clicks += int(log.clicks.sum())
            self._tell(f"{len(users):,} slates of random items shown, {clicks:,} clicks")
        key, on_stage = "before the first day", self._on_stage("before the first day")
        outcome = learn_nightly(system, key, on_stage)
        publish_for_all(system, key, on_stage)
        if outcome.action != "promote":
            raise SimulationError(
                f"the first model is not promoted ({outcome.action}): {outcome.explanation}; simulate more "
                "--users or --history"
            )
        self._tell(f"first model: {outcome.explanation}")
        return system, off_lists

    def _live(self, branch: Branch, world: World, day: int) -> None:
        """Simulate a night and a day with one policy."""
        name = branch.policy.name
        on_stage = self._on_stage(f"day {day}, {name}")
        system = branch.system
        with system.engine() as engine:
            self._application.add_items(engine, day)
            candidate = None
            if day > 1 and branch.policy.nightly:
                candidate = self._pass_night(branch, world, day, on_stage)
            elif day > 1:
                read_nightly(system, f"night {day}", on_stage)
            for hour in range(self.settings.hours):
                on_stage(f"users react, hour {hour + 1} of {self.settings.hours}")
                log = self._show(branch, world, engine, day, hour)
                np.add.at(branch.rewards[day - 1], log.users, log.click_probabilities.sum(axis=1))
                branch.clicks[day - 1] += log.clicks.sum()
                key = f"day {day} hour {hour + 1}"
                if branch.policy.hourly == "update":
                    branch.hours.append(run_hourly(system, key, on_stage))
                    self._tell_outcome(f"day {day}, {name}, hour {hour + 1}", branch.hours[-1])
                elif branch.policy.hourly == "publish":
                    read_hourly(system, key, on_stage)
                if branch.policy.experiment and candidate is not None and candidate.waits:
                    let_users_decide(system, candidate, key, self._moment(day, hour + 1), on_stage)
                    if not candidate.waits:
                        self._tell(f"day {day}, {name}, hour {hour + 1}: {candidate.decision}")

    def _pass_night(self, branch: Branch, world: World, day: int, on_stage: Tell) -> Candidate | None:
        """Simulate the night before a day; return its candidate, if there is one."""
        outcome, candidate = pass_night(
            branch.system,
            world,
            day=day,
            morning=self._moment(day, 0),
            is_bad=bool(self._generator("bad night", day).random() < self.settings.bad_nights),
            experiment=branch.policy.experiment,
            positions=self.settings.positions,
            on_stage=on_stage,
        )
        branch.nights.append(outcome)
        self._tell_outcome(f"day {day}, {branch.policy.name}, night before", outcome)
        if candidate is not None:
            branch.candidates.append(candidate)
            badly = "trained badly, " if candidate.is_bad else ""
            self._tell(
                f"day {day}, {branch.policy.name}: version {candidate.version} is {badly}truly "
                f"{candidate.gain:+.1%} clicks per slate against the champion"
            )
        return candidate

    def _show(self, branch: Branch, world: World, engine: sa.Engine, day: int, hour: int) -> SlateLog:
        """Show this hour's visitors their published lists, and load their reactions."""
        visitors = self._visitors(day, hour)
        slates, propensities, versions = self._application.published(
            engine, visitors, self.settings.positions
        )
        # For every item, shown or not: the random numbers must not depend on what a policy shows.
        luck = Luck.draw((len(visitors), world.items), self._generator("luck", day, hour))
        log = simulate_reactions(
            world,
            visitors,
            slates,
            propensities,
            luck.at(slates),
            model_version=versions,
            start=self._moment(day, hour),
            prefix=f"{day}-{hour}",
            every=_DAY / self.settings.hours / (len(visitors) + 1),
            off_lists=branch.off_lists,
        )
        folder = self._folder / branch.policy.name
        log.load(engine, folder)
        return log

    def _moment(self, day: int, hour: int) -> datetime:
        """Return when an hour of a day begins; the last hour's end is the beginning of the next day."""
        return self._end - (self.settings.days - day + 1) * _DAY + _DAY * hour / self.settings.hours

    def _visitors(self, day: int, hour: int) -> NDArray[np.int64]:
        """Return [visits] the users who visit in an hour, in order."""
        generator = self._generator("visits", day, hour)
        counts = generator.poisson(self.settings.visits / self.settings.hours, self.world.users)
        return generator.permutation(np.repeat(np.arange(self.world.users), counts))

    def _generator(self, purpose: str, *moment: int) -> np.random.Generator:
        """Return the same numbers for the same purpose and moment, whatever the policy."""
        return np.random.default_rng([self.settings.seed, *purpose.encode(), *moment])

    def _tell_outcome(self, when: str, outcome: Outcome) -> None:
        what = outcome.action if outcome.version is None else f"version {outcome.version}"
        self._tell(f"{when}: {what}, {outcome.explanation}")

    def _on_stage(self, when: str) -> Tell:
        return lambda stage: self._status(f"{when}: {stage}")
