"""Exploration: which lists are drawn, with which propensities, and whether their logs are unbiased."""

import itertools
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from numpy.typing import NDArray

from recsys.evaluation.off_policy.estimators import LoggedSlates, estimate
from recsys.evaluation.off_policy.log import read_slates
from recsys.evaluation.off_policy.slates import Greedy, SlateDistribution
from recsys.model.ranking import NO_ITEM
from recsys.publishing.exploration import Exploration, publication_seed
from recsys.publishing.histories import UserBatch
from recsys.publishing.publish import publish
from recsys.publishing.score import BatchScorer
from recsys.settings import ExplorationSettings, ModelSettings, PublishingSettings
from recsys.simulation.reactions import Luck, simulate_reactions
from recsys.simulation.world import WorldSettings, fit_world
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import Sequences
from tests.publishing.shop import ITEMS, USERS, Shop
from tests.simulation.conftest import made_ratings
from tests.simulation.logging_policy import PlackettLuce

SCORES = np.array([4.0, 3, 2, 1], dtype=np.float32)


def draw(share: float, temperature: float, users: int, k: int = 2, items: tuple[int, ...] = (7, 8, 9, 5)):
    exploration = Exploration(ExplorationSettings(share=share, temperature=temperature), k)
    pool = np.tile(np.array(items, dtype=np.int32), (users, 1))
    scores = np.where(pool == NO_ITEM, -np.inf, SCORES[: len(items)]).astype(np.float32)
    seeds = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, users)
    return exploration.draw(pool, scores, seeds)


@pytest.mark.parametrize(("share", "temperature"), [(1.0, 0.5), (0.3, 1.0), (0.05, 0.2)])
def test_a_propensity_is_the_probability_of_the_item_at_its_position_over_all_lists(share, temperature):
    odds = np.arange(1, 5) ** (-1 / temperature)
    expected = {(0, 0): 1 - share, (1, 1): 1 - share}
    for first, second in itertools.permutations(range(4), 2):
        chance = share * odds[first] / odds.sum() * odds[second] / (odds.sum() - odds[first])
        expected[first, 0] = expected.get((first, 0), 0.0) + chance
        expected[second, 1] = expected.get((second, 1), 0.0) + chance
    items, _, propensities = draw(share, temperature, 3_000)
    for shown, stated in zip(items.tolist(), propensities.tolist(), strict=True):
        ranks = [(7, 8, 9, 5).index(item) for item in shown]
        assert stated == pytest.approx(
            [expected[rank, position] for position, rank in enumerate(ranks)], rel=1e-5
        )


def test_items_appear_at_positions_as_often_as_their_propensity_says():
    users = 200_000
    items, _, propensities = draw(0.6, 0.7, users, k=3)
    for position in range(3):
        stated = dict(zip(items[:, position].tolist(), propensities[:, position].tolist(), strict=True))
        assert sum(stated.values()) == pytest.approx(1, abs=1e-5)
        for item, count in Counter(items[:, position].tolist()).items():
            deviation = np.sqrt(stated[item] * (1 - stated[item]) / users)
            assert count / users == pytest.approx(stated[item], abs=4.5 * deviation)


def test_a_list_shows_no_item_twice_and_each_with_its_own_score():
    items, scores, _ = draw(1.0, 2.0, 500, k=4)
    assert all(sorted(row) == [5, 7, 8, 9] for row in items.tolist())
    own = dict(zip((7, 8, 9, 5), SCORES.tolist(), strict=True))
    assert scores.tolist() == [[own[item] for item in row] for row in items.tolist()]


def test_with_few_candidates_the_last_positions_stay_empty():
    items, scores, propensities = draw(1.0, 1.0, 400, k=3, items=(7, 8, NO_ITEM, NO_ITEM))
    assert {tuple(row) for row in items.tolist()} == {(7, 8, NO_ITEM), (8, 7, NO_ITEM)}
    assert np.isneginf(scores[:, 2]).all()
    assert propensities[items[:, 0] == 7][0] == pytest.approx([2 / 3, 2 / 3, 1])
    nothing, _, ones = draw(1.0, 1.0, 2, k=3, items=(NO_ITEM,) * 4)
    assert (nothing == NO_ITEM).all()
    assert (ones == 1).all()


def test_the_configured_share_of_lists_is_drawn():
    items, _, _ = draw(0.2, 10.0, 20_000)
    changed = (items != [7, 8]).any(axis=1).mean()
    # A drawn list may be the ranked one.
    assert 0.15 < changed < 0.2


def test_a_low_temperature_draws_lists_near_the_ranking():
    near, far = (draw(1.0, temperature, 2_000)[0] for temperature in (0.1, 10.0))
    assert (near[:, 0] == 7).mean() > 0.99
    assert (far[:, 0] == 7).mean() < 0.4


# With a model and a warehouse.


def exploring(shop: Shop, share: float = 0.5) -> Shop:
    exploration = ExplorationSettings(share=share, temperature=1.0)
    publishing = shop.settings.publishing.model_copy(update={"exploration": exploration})
    shop.settings = shop.settings.model_copy(update={"publishing": publishing})
    return shop


def published(shop: Shop, run_key: str) -> dict[str, dict]:
    publish(shop.engine, shop.settings, scope="all", run_key=run_key, load=shop.load)
    columns = "user_id, item_ids, scores, propensities, reasons"
    return {row["user_id"]: dict(row) for row in shop.rows(f"select {columns} from recommendation_lists")}


def test_without_exploration_every_list_is_the_ranked_one_with_propensity_1(shop: Shop) -> None:
    lists = published(shop, "first").values()
    assert all(set(row["propensities"]) == {1} for row in lists)
    assert all(row["scores"] == sorted(row["scores"], reverse=True) for row in lists)


@pytest.mark.parametrize("diversity", [0.0, 0.6])
def test_lists_that_are_not_drawn_are_unchanged_and_reasons_match_their_items(
    shop: Shop, diversity: float
) -> None:
    varied = shop.settings.publishing.model_copy(update={"diversity": diversity})
    shop.settings = shop.settings.model_copy(update={"publishing": varied})
    ranked = published(shop, "ranked")
    drawn = published(exploring(shop), "drawn")
    same = [
        user
        for user in USERS
        if all(drawn[user][name] == ranked[user][name] for name in ("item_ids", "scores", "reasons"))
    ]
    assert 10 < len(same) < 30  # of 40, half of which are drawn
    for row in drawn.values():
        assert all(0 < propensity < 1 for propensity in row["propensities"])
        assert row["reasons"] == [f'version 1 likes "{item.title()}"' for item in row["item_ids"]]
        assert not {"item 03", "item 07"} & set(row["item_ids"])
    consumed = shop.consumed()
    assert not any(consumed[user] & set(row["item_ids"]) for user, row in drawn.items())


def test_a_retry_draws_the_same_lists_and_another_publication_draws_others(shop: Shop) -> None:
    first = published(exploring(shop, 1.0), "one")
    shop.execute("delete from recommendation_lists")
    shop.execute("delete from publications")
    again = published(shop, "one")
    assert again == first
    assert published(shop, "two") != first


def test_a_users_drawn_list_does_not_depend_on_who_else_is_published(shop: Shop) -> None:
    everyone = published(exploring(shop, 1.0), "one")
    shop.execute("delete from recommendation_lists")
    shop.execute("delete from publications")
    shop.execute("delete from users where user_id < 'user 20'")
    fewer = published(shop, "one")
    assert len(fewer) == 20
    assert all(fewer[user] == everyone[user] for user in fewer)


def test_slates_logged_as_published_can_be_used_for_off_policy_evaluation(shop: Shop) -> None:
    published(exploring(shop), "drawn")
    # As applications do: log the list and its propensities unchanged.
    shop.execute(
        "insert into impressions (impression_id, user_id, item_ids, propensities, model_version, shown_at)"
        " select 'slate of ' || user_id, user_id, array_agg(item_id order by rank),"
        " array_agg(propensity order by rank), min(model_version), now()"
        " from recommendations group by user_id"
    )
    now = datetime.now(UTC)
    catalogue = Catalogue.build(ITEMS, ITEMS)
    records = read_slates(
        shop.engine, catalogue, now - timedelta(hours=1), now + timedelta(hours=1), ("click",)
    )
    assert (len(records), records.left_out) == (len(USERS), {})
    assert (records.propensities < 1).all()


def test_publication_seeds_are_valid_postgres_hash_seeds(warehouse: sa.Engine) -> None:
    seeds = [publication_seed(f"run {number}") for number in range(100)]
    assert len(set(seeds)) == 100
    with warehouse.connect() as connection:
        hashes = [
            connection.execute(sa.text("select hashtextextended('ada', :seed)"), {"seed": seed}).scalar_one()
            for seed in seeds
        ]
    assert len(set(hashes)) == 100


@dataclass
class Table:
    """A model that returns a fixed table of scores [users, items]."""

    scores: NDArray[np.float32]
    catalogue: Catalogue
    settings: ModelSettings = field(default_factory=ModelSettings)

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        return np.eye(len(self.catalogue), dtype=np.float32)

    def scorer(self) -> "Table":
        return self

    def user_vectors(self, histories: Sequences, requests: list[str] | None = None) -> torch.Tensor:
        return torch.arange(histories.users)[:, None]

    def score(
        self, users: torch.Tensor, histories: Sequences, requests: list[str] | None = None
    ) -> torch.Tensor:
        return torch.from_numpy(self.scores)[users[:, 0]].clone()


@pytest.mark.parametrize("diversity", [0.0, 0.4])
def test_a_list_shows_one_of_a_group_as_often_as_its_propensity_says(diversity: float) -> None:
    users, k = 20_000, 2
    names = list("abcdef")
    catalogue = Catalogue.build(names, names, variant_of=["film", "film", None, "c", None, "film"])
    scores = np.tile(np.float32([5, 6, 4, 3, 2, 1]), (users, 1))
    publishing = PublishingSettings(
        k=k, diversity=diversity, exploration=ExplorationSettings(share=0.7, temperature=1.0)
    )
    scorer = BatchScorer(Table(scores, catalogue), publishing, None)
    nothing = np.zeros(0, dtype=np.int64)
    seeds = np.random.default_rng(0).integers(0, 2**63 - 1, users)
    everybody = Sequences.empty([str(user) for user in range(users)])
    lists = scorer.score(UserBatch(0, everybody, nothing, nothing.astype(np.int32), seeds))
    # b is the best of its group, and c is better than its variant d.
    assert set(np.unique(lists.items)) == {1, 2, 4}
    assert (lists.items[:, 0] != lists.items[:, 1]).all()
    for position, item in itertools.product(range(k), (1, 2, 4)):
        shown = lists.items[:, position] == item
        [stated] = np.unique(lists.propensities[shown, position])
        assert shown.mean() == pytest.approx(stated, abs=0.015)


def test_intervals_from_logs_of_drawn_lists_have_their_nominal_coverage() -> None:
    """Logs of 200 publications of a worse model evaluate the lists of a better one."""
    positions = 3
    world = fit_world(made_ratings(1_000, 40, 15), WorldSettings(dim=4))
    users, generator = np.arange(world.users), np.random.default_rng(0)
    names = [str(user) for user in users]
    preference = world.preference(users)
    worse, better = (
        (preference + generator.normal(0, noise, preference.shape)).astype(np.float32) for noise in (1, 0.5)
    )
    catalogue = Catalogue.build(world.item_ids.tolist(), world.item_ids.tolist())
    publishing = PublishingSettings(k=positions, exploration=ExplorationSettings(share=0.8, temperature=1.0))
    scorer = BatchScorer(Table(worse, catalogue), publishing, None)
    # The log supports only items among the candidates.
    pool = Greedy().distribution(worse, 4 * positions).items
    supported = np.full_like(better, -np.inf)
    np.put_along_axis(supported, pool, np.take_along_axis(better, pool, axis=1), axis=1)
    policies = {
        "ranked": Greedy().distribution(supported, positions),
        "drawn": PlackettLuce(0.5, pool=12).distribution(supported, positions),
    }
    truth = {name: world.expected_clicks(users, policy).mean() for name, policy in policies.items()}
    nothing = np.zeros(0, dtype=np.int64)
    covered = dict.fromkeys(policies, 0)
    for number in range(200):
        seeds = np.random.default_rng(number).integers(0, 2**63 - 1, world.users)
        everybody = UserBatch(0, Sequences.empty(names), nothing, nothing.astype(np.int32), seeds)
        lists = scorer.score(everybody)
        # Visits are random too: some users see their list twice, some never.
        visitors = generator.integers(0, world.users, 1_000)
        slates, propensities = lists.items[visitors], lists.propensities[visitors].astype(np.float64)
        log = simulate_reactions(
            world, visitors, slates, propensities, Luck.draw(slates.shape, generator),
            model_version="1", start=datetime(2026, 1, 1, tzinfo=UTC), prefix="log",
        )  # fmt: skip
        rewards, shown = log.clicks.astype(float), np.ones(slates.shape, dtype=bool)
        for name, policy in policies.items():
            judged = SlateDistribution(policy.items[visitors], policy.probabilities[visitors])
            logged = LoggedSlates(rewards, propensities, judged.of(slates), visitors, shown)
            found = estimate(logged, "snips")
            covered[name] += found.low <= truth[name] <= found.high
    shares = {name: count / 200 for name, count in covered.items()}
    assert all(0.90 <= share <= 0.99 for share in shares.values()), shares
