"""Age of an item at the moment of a recommendation."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.fusion import NEURAL, Fusion, fit_fusion
from recsys.model.item_age import FEATURES, ItemAges
from recsys.model.recent import LAG, EventLog
from recsys.model.recommender import Recommender
from recsys.snapshot.catalogue import Catalogue
from recsys.snapshot.sequences import Sequences
from tests.model.test_recent import news
from tests.small_models import theme_world

HOUR = 3_600_000_000
DAY = 24 * HOUR


def articles(count: int, available_from: dict[int, float] | None = None) -> Catalogue:
    """Return articles, some with a day from which they are available."""
    days = available_from or {}
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return Catalogue.build(
        [f"article {number}" for number in range(count)],
        [""] * count,
        available_from=[start + timedelta(days=days[n]) if n in days else None for n in range(count)],
    )


def ages_of(features: np.ndarray, moment: int = 0) -> np.ndarray:
    """Return [items] the logarithm of the age, except for a constant."""
    result: np.ndarray = features[FEATURES.index("age"), moment]
    return result


def test_an_item_is_as_old_as_its_first_event() -> None:
    ages = ItemAges.fit(news((0, 1), (1, 3), (0, 4), (2, 4.5)), 3)
    age = ages_of(ages.features_at(articles(3), np.array([5 * DAY])))
    np.testing.assert_allclose(age - age[0], np.log1p([96, 48, 12]) - np.log1p(96), atol=1e-5)
    assert age.sum() == pytest.approx(0, abs=1e-5)


def test_the_stated_time_comes_before_the_first_event() -> None:
    ages = ItemAges.fit(news((0, 1), (1, 1)), 3)
    age = ages_of(ages.features_at(articles(3, {1: 3, 2: 4}), np.array([4 * DAY])))
    np.testing.assert_allclose(age - age[0], np.log1p([72, 24, 0]) - np.log1p(72), atol=1e-5)


def test_items_are_available_from_their_stated_time_or_their_first_event() -> None:
    dated = ItemAges.fit(news((0, 2), (1, 2)), 3).dated(articles(3, {1: 1}))
    moments = np.array([0.5, 1.5, 2]) * DAY
    available = [dated.within_its_time(np.arange(3), int(moment)).tolist() for moment in moments]
    assert available == [[False, False, True], [False, True, True], [True, True, True]]


def test_an_item_of_unknown_age_is_neither_new_nor_old() -> None:
    ages = ItemAges.fit(news((0, 1), (1, 3)), 3)
    features = ages.features_at(articles(3), np.array([4 * DAY]))
    assert (features[:, 0, 2] == 0).all()
    assert ages_of(features)[1] < 0 < ages_of(features)[0]
    nothing = ItemAges.fit(Sequences.empty(), 3)
    assert not nothing.features_at(articles(3), np.array([4 * DAY, 0])).any()


def test_a_moment_knows_nothing_of_later_events_nor_of_the_last_hour() -> None:
    everything = news((0, 1), (1, 2), (2, 3))
    log, known = EventLog.of(everything), ItemAges.fit(news((0, 1)), 3)
    for moment in (1 * DAY, 2 * DAY + LAG // 2, 2 * DAY + LAG, 3 * DAY + LAG - 1, 9 * DAY):
        before = ItemAges.fit(everything.before(moment - LAG + 1), 3)
        moments = np.array([moment])
        expected = before.features_at(articles(3), moments)
        np.testing.assert_array_equal(
            known.with_log(log).features_at(articles(3), moments), expected, err_msg=str(moment)
        )


def test_a_users_exact_time_is_not_kept_and_nothing_is_known_too_early() -> None:
    ages = ItemAges.fit(news((0, 0), (1, 1 + 0.01 / 24)), 2)
    assert ages.first_event.tolist() == [0, DAY + HOUR // 4]
    known_from = DAY + HOUR // 4 + LAG
    [early, later] = ages.features_at(articles(2), np.array([known_from - 1, known_from]))[0, :, 1]
    assert early == 0 > later


def test_after_a_week_nothing_changes() -> None:
    ages = ItemAges.fit(news((0, 1), (1, 300)), 2)
    features = ages.features_at(articles(2), np.array([400 * DAY]))
    np.testing.assert_allclose(features, 0, atol=1e-6)


def test_moments_are_independent_and_parts_add_up() -> None:
    first, second = news((0, 1), (1, 2)), news((2, 0.5), (1, 0.25))
    both = ItemAges.fit([first, second], 3)
    assert both.first_event.tolist() == ItemAges.fit([second, first], 3).first_event.tolist()
    moments = np.array([9, 1, 3]) * DAY
    together = both.features_at(articles(3), moments)
    for row, moment in enumerate(moments):
        alone = both.features_at(articles(3), np.array([moment]))
        np.testing.assert_array_equal(together[:, row], alone[:, 0])


def test_the_fusion_learns_that_new_articles_are_read() -> None:
    rng = np.random.default_rng(0)
    days = np.arange(40) / 2
    ages = ItemAges.fit(news(*enumerate(days)), 40)
    moments = (rng.uniform(8, 20, 300) * DAY).astype(np.int64)
    features = ages.features_at(articles(40), moments)
    newest = np.array([int(np.searchsorted(days * DAY, m - 2 * LAG)) - 1 for m in moments])
    noise = rng.normal(size=(300, 40)).astype(np.float32)
    excluded = np.zeros((300, 40), dtype=bool)
    users = np.array([f"user {n}" for n in range(300)], dtype=object)
    fusion, ndcg = fit_fusion(
        {NEURAL: noise} | dict(zip(FEATURES, features, strict=True)), newest, excluded, users
    )
    plain, without = fit_fusion({NEURAL: noise}, newest, excluded, users)
    assert fusion.weights["age"] < 0
    assert ndcg > 0.7 > 0.3 > without
    assert not set(FEATURES) & set(plain.weights)


@pytest.fixture
def aged(recommender: Recommender, catalogue: Catalogue) -> Recommender:
    """A recommender that knows when its items were first chosen, and prefers new ones."""
    recommender.ages = ItemAges.fit(theme_world(catalogue), len(catalogue))
    recommender.fusion = Fusion({NEURAL: 1.0, "age": -0.5, "age_after_a_day": -0.3})
    recommender.returning_fusion = recommender.fusion
    recommender.request_fusion = Fusion({NEURAL: 1.0, "age": 0.7})
    return recommender


@pytest.mark.parametrize("requests", [None, ["", "rocket", "", "", "soup"]], ids=["plain", "asked"])
@pytest.mark.parametrize("spread", [0, DAY], ids=["one moment", "many moments"])
def test_the_score_is_the_weighted_sum_with_ages(
    aged: Recommender, catalogue: Catalogue, requests: list[str] | None, spread: int
) -> None:
    some = theme_world(catalogue).take_users(range(5))
    some = some.asked(int(some.occurred_at.min()) + 2 * DAY + spread * np.arange(5))
    parts = aged.parts(some, requests)
    assert all(np.ptp(parts[name]) > 0 for name in FEATURES)
    expected = aged.fusion.join(parts)
    for row, request in enumerate(requests or []):
        if request:
            expected[row] = aged.request_fusion.join(parts)[row]
    np.testing.assert_allclose(aged.score(some, requests), expected, atol=1e-4)


def test_ages_follow_their_items_to_another_catalogue(aged: Recommender, catalogue: Catalogue) -> None:
    assert aged.ages is not None
    moved = aged.with_catalogue(catalogue.take([3, 1])).ages
    assert moved is not None
    assert moved.first_event.tolist() == aged.ages.first_event[[3, 1]].tolist()


def test_a_checkpoint_keeps_ages_and_an_older_one_has_none(aged: Recommender, tmp_path: Path) -> None:
    assert aged.ages is not None
    save_recommender(aged, tmp_path)
    loaded = load_recommender(tmp_path)
    assert loaded.ages is not None
    assert loaded.ages.first_event.tolist() == aged.ages.first_event.tolist()
    path = tmp_path / "items.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["first_event"]), path)
    older = load_recommender(tmp_path)
    assert older.ages is None
    some = theme_world(aged.catalogue).take_users(range(3))
    assert np.isfinite(older.score(some)).all()
    save_recommender(older, tmp_path)
    assert load_recommender(tmp_path).ages is None
