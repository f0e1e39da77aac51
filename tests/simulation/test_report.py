"""Reports of small simulations that can be checked by hand."""

import numpy as np
import pytest

from recsys.settings import Settings
from recsys.simulation.dag_runs import Outcome
from recsys.simulation.loop import Branch, Simulated
from recsys.simulation.policies import POLICIES
from recsys.simulation.report import plot, report, to_json
from recsys.simulation.system import System


def _branch(tmp_path, name, rewards, **outcomes):
    rewards = np.asarray(rewards, dtype=float)
    return Branch(
        POLICIES[name], System(Settings(home=tmp_path)), np.zeros((rewards.shape[1], 1), dtype=bool),
        rewards, rewards.sum(axis=1).astype(np.int64), **outcomes,
    )  # fmt: skip


@pytest.fixture
def simulated(tmp_path):
    """Two days of four users who see 1, 2, 3 and 0 slates per day; `nightly` earns more on day 2."""
    slates = np.array([[1, 2, 3, 0]] * 2)
    frozen = slates * 1.0
    nightly = frozen + np.array([[0], [0.5]]) * slates
    night = [Outcome("promote", "It is better.", "2"), Outcome("hold", "It may be worse.", "3")]
    return Simulated(
        {
            "frozen": _branch(tmp_path, "frozen", frozen),
            "nightly": _branch(tmp_path, "nightly", nightly, nights=night),
        },
        slates,
    )


def test_reward_is_per_slate_and_gain_counts_the_days_after_the_first(simulated):
    reports = report(simulated)
    assert [day.value for day in reports["frozen"].days] == [1, 1]
    assert [day.value for day in reports["nightly"].days] == [1, 1.5]
    assert reports["nightly"].later.value == 1.5
    assert reports["nightly"].gain.value == 0.5
    assert reports["frozen"].gain is None
    assert reports["nightly"].nights == {"hold": 1, "promote": 1}


def test_the_interval_is_a_bootstrap_over_users(tmp_path):
    generator = np.random.default_rng(0)
    users = 400
    rewards = generator.exponential(1.0, (1, users))
    world = Simulated({"frozen": _branch(tmp_path, "frozen", rewards)}, np.ones((1, users), dtype=np.int64))
    [day] = report(world)["frozen"].days
    width = 2 * 1.96 * rewards.std() / np.sqrt(users)
    assert day.high - day.low == pytest.approx(width, rel=0.1)
    assert day.value == pytest.approx(rewards.mean())
    assert day.low < day.value < day.high


def test_the_gain_is_computed_on_paired_users(tmp_path):
    generator = np.random.default_rng(0)
    slates = np.ones((1, 300), dtype=np.int64)
    frozen = generator.exponential(5.0, slates.shape)
    found = report(
        Simulated(
            {
                "frozen": _branch(tmp_path, "frozen", frozen),
                "nightly": _branch(tmp_path, "nightly", frozen + 0.1),
            },
            slates,
        )
    )["nightly"]
    assert found.later.high - found.later.low > 0.5
    assert found.gain.low == pytest.approx(0.1)
    assert found.gain.high == pytest.approx(0.1)


def test_a_day_without_slates_has_no_reward(tmp_path):
    nobody = Simulated(
        {"frozen": _branch(tmp_path, "frozen", np.zeros((2, 3)))}, np.zeros((2, 3), dtype=np.int64)
    )
    reports = report(nobody)
    assert reports["frozen"].later.value is None
    assert to_json(reports, {})["policies"]["frozen"]["days"][0] == {"value": None, "low": None, "high": None}
    plot(reports)


def test_the_plot_has_a_line_per_policy(simulated):
    [axes] = plot(report(simulated)).axes
    assert [line.get_label() for line in axes.lines] == ["frozen", "nightly"]
    assert axes.lines[1].get_ydata().tolist() == [1, 1.5]
