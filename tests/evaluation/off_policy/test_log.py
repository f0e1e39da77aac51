from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from recsys.errors import EvaluationError
from recsys.evaluation.off_policy.compare import OffPolicyComparison, PolicyValue, compare_policies
from recsys.evaluation.off_policy.diagnostics import diagnose
from recsys.evaluation.off_policy.estimators import LoggedSlates, estimate
from recsys.evaluation.off_policy.log import read_slates, screen_slates
from recsys.evaluation.result import CANDIDATE, CHAMPION
from recsys.settings import EvaluationSettings
from recsys.simulation.world import WorldSettings, fit_world
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.warehouse.recipes import apply_recipe
from tests.simulation.conftest import made_ratings
from tests.simulation.logging_policy import PlackettLuce, show_slates

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CATALOGUE = Catalogue.build(["a", "b", "c"], ["A", "B", "C"])


def _row(**changes):
    return {
        "user_key": "ann", "item_ids": ["a", "b"], "propensities": [0.5, 0.25], "model_version": "7",
        "asked_in_words": False, "shown_at": NOW, "answered": ["b"],
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"propensities": [0.5, 0.0]}, "propensity_not_above_0"),
        ({"propensities": [0.5, -0.1]}, "propensity_not_above_0"),
        ({"propensities": [0.5, 1.2]}, "propensity_above_1"),
        ({"propensities": [float("nan"), 0.5]}, "propensity_not_a_number"),
        ({"propensities": [None, 0.5]}, "propensity_not_a_number"),
        ({"propensities": [0.5]}, "propensity_count_differs"),
        ({"propensities": None}, "no_propensities"),
        ({"model_version": "99"}, "unknown_model_version"),
        ({"model_version": None}, "unknown_model_version"),
        ({"user_key": None}, "user_without_key_or_consent"),
        ({"asked_in_words": True}, "asked_in_words"),
        ({"item_ids": [], "propensities": []}, "empty_slate"),
        ({"item_ids": ["a", "a"]}, "item_twice_in_slate"),
    ],
)
def test_a_slate_that_cannot_be_weighted_is_left_out_and_counted_by_reason(changes, reason):
    records = screen_slates([_row(), _row(**changes), _row()], CATALOGUE, {"7"})
    assert len(records) == 2
    assert records.left_out == {reason: 1}


def test_slates_of_different_lengths_and_unknown_items_become_arrays():
    longer = _row(item_ids=["c", "gone", "a"], propensities=[1.0, 0.5, 0.1], answered=["gone"])
    records = screen_slates([_row(), longer], CATALOGUE, {"7"})
    assert records.slates.tolist() == [[0, 1, -1], [2, -1, 0]]
    assert records.shown.tolist() == [[True, True, False], [True, True, True]]
    assert records.rewards.tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.fixture
def logged(warehouse, tmp_path):
    """A world whose slates are in the warehouse, shown by a published version."""
    world = fit_world(made_ratings(400, 30, 10), WorldSettings(dim=4))
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO users (user_id, user_key) VALUES (:u, :k)"),
            [{"u": user, "k": f"key-{user}"} for user in world.user_ids],
        )
        connection.execute(
            sa.text("INSERT INTO items (item_id) VALUES (:i)"), [{"i": item} for item in world.item_ids]
        )
        connection.execute(
            sa.text(
                "INSERT INTO publications (run_key, model_version, scope, users, items,"
                " through_transaction_id) VALUES ('run', '7', 'all', 1, 1, 1)"
            )
        )
    generator = np.random.default_rng(0)
    preference = world.preference(np.arange(world.users))
    scores = (preference + generator.normal(0, 1, preference.shape)).astype(np.float32)
    users = generator.permutation(np.repeat(np.arange(world.users), 4))
    log = show_slates(
        world, users, scores[users], PlackettLuce(1.0, pool=30), positions=3, model_version="7",
        start=NOW, generator=generator, prefix="log",
    )  # fmt: skip
    log.load(warehouse, tmp_path)
    return world, scores, log


class _ByKey:
    """Gives each user the scores of the key."""

    def __init__(self, world, scores):
        self.rows = {f"key-{user}": row for user, row in zip(world.user_ids, scores, strict=True)}
        self.lengths = []

    def score(self, histories):
        self.lengths += histories.lengths.tolist()
        return np.stack([self.rows[key] for key in histories.user_keys])


def _catalogue(world):
    names = world.item_ids.tolist()
    return Catalogue.build(names, names)


def _everyone(world):
    return Sequences.empty([f"key-{user}" for user in world.user_ids])


def test_slates_are_read_from_the_warehouse_with_their_rewards(warehouse, logged):
    world, _, log = logged
    until = NOW + timedelta(days=1)
    records = read_slates(warehouse, _catalogue(world), NOW, until, ["click"])
    np.testing.assert_array_equal(records.slates, log.slates)
    np.testing.assert_array_equal(records.rewards, log.clicks)
    np.testing.assert_allclose(records.propensities, log.propensities, rtol=1e-6)
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO quarantined_impressions (impression_id, shown_at, transaction_id, reasons)"
            " SELECT impression_id, shown_at, transaction_id, '{shown_twice}' FROM impressions"
            " ORDER BY shown_at LIMIT 5"
        )
    assert len(read_slates(warehouse, _catalogue(world), NOW, until, ["click"])) == len(log) - 5
    with warehouse.begin() as connection:
        connection.exec_driver_sql("UPDATE quarantined_impressions SET status = 'released'")
    half = read_slates(warehouse, _catalogue(world), NOW + timedelta(seconds=800), until, ["click"])
    assert len(half) == len(log) - 800
    with warehouse.begin() as connection:
        connection.execute(
            sa.text("UPDATE impressions SET model_version = 'unheard of' WHERE shown_at = :t"), {"t": NOW}
        )
        connection.execute(
            sa.text("UPDATE users SET consent = false WHERE user_id = :u"), {"u": world.user_ids[0]}
        )
    fewer = read_slates(warehouse, _catalogue(world), NOW, until, ["click"])
    assert fewer.left_out["unknown_model_version"] == 1
    assert fewer.left_out["user_without_key_or_consent"] in (3, 4)
    assert len(fewer) + sum(fewer.left_out.values()) == len(log)


def test_slates_are_not_compared_with_every_answer(warehouse, logged):
    world, _, _ = logged
    plans = []

    def explain(connection, cursor, statement, parameters, *_):
        if "AS answered" in statement:
            with connection.connection.cursor() as other:
                other.execute(f"EXPLAIN {statement}", parameters)
                plans.append("\n".join(line for (line,) in other))

    with warehouse.begin() as connection:
        connection.exec_driver_sql("ANALYZE impressions")
        connection.exec_driver_sql("ANALYZE feedback")
    sa.event.listen(warehouse, "before_cursor_execute", explain)
    read_slates(warehouse, _catalogue(world), NOW, NOW + timedelta(days=1), ["click"])
    [plan] = plans
    assert "Nested Loop" not in plan


@pytest.mark.parametrize(
    ("user", "event_type", "value", "hours", "reward"),
    [
        ("ann", "click", None, 0.1, 1),
        ("ann", "click", None, -0.5, 1),
        ("ann", "purchase", 20.0, 0.1, 1),
        ("ann", "purchase", -20.0, 0.1, 0),
        ("ann", "rating", 5.0, 0.1, 1),
        ("ann", "rating", 1.0, 0.1, 0),
        ("ann", "view", None, 0.1, 0),
        ("bob", "click", None, 0.1, 0),
        ("ann", "click", None, -3, 0),
    ],
)
def test_what_is_a_reward(
    warehouse: sa.Engine, user: str, event_type: str, value: float | None, hours: float, reward: int
) -> None:
    apply_recipe(warehouse, "shop")
    with warehouse.begin() as connection:
        connection.exec_driver_sql("INSERT INTO users (user_id, user_key) VALUES ('ann', 'a'), ('bob', 'b')")
        connection.execute(
            sa.text(
                "INSERT INTO impressions"
                " (impression_id, user_id, item_ids, propensities, model_version, shown_at)"
                " VALUES ('slate', 'ann', '{a,b}', '{1,1}', '7', :now)"
            ),
            {"now": NOW},
        )
        connection.execute(
            sa.text(
                "INSERT INTO feedback (user_id, item_id, event_type, value, impression_id, occurred_at)"
                " VALUES (:user, 'b', :event_type, :value, 'slate', :at)"
            ),
            {"user": user, "event_type": event_type, "value": value, "at": NOW + timedelta(hours=hours)},
        )
        connection.execute(
            sa.text(
                "INSERT INTO publications"
                " (run_key, model_version, scope, users, items, through_transaction_id)"
                " VALUES ('run', '7', 'all', 1, 1, 1)"
            )
        )
    types = ["click", "purchase", "rating"]
    records = read_slates(warehouse, CATALOGUE, NOW, NOW + timedelta(days=1), types)
    assert records.rewards.tolist() == [[0, reward]]


def test_a_better_policy_is_found_on_logged_slates_and_the_result_is_saved(warehouse, logged, tmp_path):
    world, scores, _ = logged
    records = read_slates(warehouse, _catalogue(world), NOW, NOW + timedelta(days=1), ["click"])
    preference = world.preference(np.arange(world.users)).astype(np.float32)
    scorers = {CANDIDATE: _ByKey(world, preference), CHAMPION: _ByKey(world, scores)}
    settings = EvaluationSettings(off_policy_min_slates=20)
    softmax = PlackettLuce(0.5, pool=30)
    histories = _everyone(world)
    found = compare_policies(
        records, scorers, histories, _catalogue(world), settings, CANDIDATE, CHAMPION, policy=softmax
    )
    truth = {
        name: world.expected_clicks(np.arange(world.users), softmax.distribution(values, 3)).mean()
        for name, values in ((CANDIDATE, preference), (CHAMPION, scores))
    }
    for name, value in truth.items():
        assert found.values[name].problem is None
        snips = next(each for each in found.values[name].estimates if each.method == "snips")
        assert snips.low <= value <= snips.high
    assert found.problem is None
    assert found.difference.low > 0
    assert found.difference.low <= truth[CANDIDATE] - truth[CHAMPION] <= found.difference.high
    found.save(tmp_path)
    assert OffPolicyComparison.load(tmp_path) == found
    assert OffPolicyComparison.load(tmp_path / "nothing") is None


def test_a_policy_sees_the_history_as_of_the_moment_the_slate_was_shown(make_sequences, catalogue, minute):
    sequences = make_sequences([("ann", "a", 0, "like", "full"), ("ann", "b", 10, "like", "full")], catalogue)
    rows = [_row(shown_at=minute(5), item_ids=["b"], propensities=[0.5]), _row(shown_at=minute(20)),
            _row(user_key="stranger", shown_at=minute(20))]  # fmt: skip

    class Recorder:
        def __init__(self):
            self.lengths = []

        def score(self, histories):
            self.lengths += histories.lengths.tolist()
            return np.tile(np.float32([6, 5, 4, 3, 2, 9]), (histories.users, 1))

    recorder = Recorder()
    records = screen_slates(rows, catalogue, {"7"})
    found = compare_policies(
        records,
        {CANDIDATE: recorder},
        sequences,
        catalogue,
        EvaluationSettings(),
        CANDIDATE,
        CHAMPION,
    )
    assert recorder.lengths == [1, 2, 0]
    assert found.difference is None
    assert found.slates == 3


def test_an_interval_that_is_missing_is_saved_as_null_and_read_as_nan(tmp_path):
    one_user = LoggedSlates(*[np.ones((3, 1))] * 3, np.zeros(3, dtype=int), np.ones((3, 1), dtype=bool))
    value = PolicyValue((estimate(one_user),), diagnose(one_user), None)
    OffPolicyComparison("clicks", 3, {}, 1.0, {CANDIDATE: value}).save(tmp_path)
    assert '"low": null' in (tmp_path / "off_policy.json").read_text()
    [read] = OffPolicyComparison.load(tmp_path).values[CANDIDATE].estimates
    assert (read.value, read.slates) == (1.0, 3)
    assert np.isnan(read.low)
    (tmp_path / "off_policy.json").write_text('{"reward": "clicks"}')
    with pytest.raises(EvaluationError, match=r"off_policy.json cannot be read"):
        OffPolicyComparison.load(tmp_path)


def test_without_usable_slates_only_the_reasons_are_reported(catalogue):
    records = screen_slates([_row(model_version="99")], catalogue, {"7"})
    found = compare_policies(
        records, {}, Sequences.empty(), catalogue, EvaluationSettings(), CANDIDATE, CHAMPION
    )
    assert (found.slates, found.values, found.left_out) == (0, {}, {"unknown_model_version": 1})
