import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.live_interest import LiveInterest
from recsys.model.recent import EventLog, RecentPopularity
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training.full import Fitted
from recsys.training.live_interest import (
    LiveCase,
    fit_live_interest,
    fit_trending_before_reaction,
    live_cases,
    make_case,
)
from recsys.training.other_parts import trending_half_life_days
from recsys.training.split import ValidationCases
from recsys.training.together import DAY
from tests.small_models import EVENT_TYPES, HOUR, LIKE, histories, liked

ITEMS = 60


def cases(users: int, target: str) -> list[LiveCase]:
    """Cases of users who chose the published first, what goes with their reaction, or what is trending."""
    rng = np.random.default_rng(0)
    vectors = np.eye(ITEMS)
    made = []
    for user in range(users):
        items = rng.permutation(ITEMS)
        pool, trending, reacted = items[:40], items[40:50], items[50:51]
        beside = pool[10 + user % 20]
        chosen = {"published": pool[user % 2], "beside": beside, "trending": trending[user % 2]}[target]
        lists = [(np.array([beside, items[51]]), np.array([0.5, 0.1]))]
        made.append(
            make_case(
                user=f"u-{user}", target=int(chosen), pool=pool, trending=trending, reacted=reacted,
                weight=np.ones(1), age=np.zeros(1, dtype=np.int64), lists=lists, vectors=vectors,
                had=reacted, hidden=np.zeros(0, dtype=np.int32),
            )
        )  # fmt: skip
    return made


def test_the_weights_follow_what_users_choose() -> None:
    published, _ = fit_live_interest(cases(200, "published"))
    beside, figures = fit_live_interest(cases(200, "beside"))
    trending, _ = fit_live_interest(cases(200, "trending"))
    assert published.strength < 1 < beside.strength
    assert published.trending < 0.5 < trending.trending
    assert beside.trending < trending.trending
    assert figures["validation_ndcg_live"] >= figures["validation_ndcg_live_by_default"]
    assert figures["validation_ndcg_live"] > figures["validation_ndcg_as_published"]


def test_one_user_hardly_moves_the_weights_and_nobody_does_not() -> None:
    assert fit_live_interest([]) == (LiveInterest(), {})
    few, many = (fit_live_interest(cases(users, "published"))[0] for users in (1, 200))
    assert many.strength < few.strength


def test_a_user_with_many_cases_counts_once() -> None:
    one = [replace(case, user="robot") for case in cases(200, "published")]
    mixed, _ = fit_live_interest(one + cases(20, "beside"))
    assert mixed.strength > fit_live_interest(cases(200, "published"))[0].strength


def test_cases_are_the_users_who_have_reacted_since_midnight(fitted: Fitted, catalogue: Catalogue) -> None:
    past = histories(
        catalogue, liked("space-1", "space-2", "space-3", "space-4"), liked("crime-1", "crime-2")
    )
    # The first user comes back on another day and reacts once; the second does not react before the case.
    days = np.array([0, 0, 10, 10, 0, 11])
    past = replace(past, occurred_at=days * DAY + np.arange(6) * HOUR)
    found = live_cases(
        fitted.model,
        ValidationCases.of(past, np.array([3, 5])),
        [past],
        EventLog.of(past),
    )
    [case] = found
    assert case.user == past.user_keys[0]
    [other] = live_cases(
        fitted.model,
        ValidationCases.of(past, np.array([3, 5])),
        [past],
        EventLog.of(past),
        reacted=False,
    )
    assert other.user == past.user_keys[1]
    assert not len(other.weight)
    assert not other.shown[other.items == catalogue.index["crime-1"]].any()
    index = catalogue.index
    assert not case.shown[np.isin(case.items, [index["space-1"], index["space-2"]])].any()
    assert case.items[case.target] == index["space-4"]


def test_trends_come_in_before_a_reaction_only_where_that_is_shown_to_gain() -> None:
    def unprompted(target: str, users: int = 200) -> list[LiveCase]:
        return [
            replace(
                case, together=case.together[:, :0], alike=case.alike[:, :0], among=case.among[:0, :0],
                has_list=case.has_list[:0], weight=case.weight[:0], age=case.age[:0],
            )
            for case in cases(users, target)
        ]  # fmt: skip

    gains, figures = fit_trending_before_reaction(unprompted("trending"))
    assert gains > 0.5
    assert (
        figures["validation_ndcg_before_reaction"] > figures["validation_ndcg_before_reaction_as_published"]
    )
    assert fit_trending_before_reaction(unprompted("published"))[0] == 0
    assert fit_trending_before_reaction(unprompted("trending", users=1))[0] == 0
    assert fit_trending_before_reaction([]) == (0.0, {})


def test_trends_fade_fast_only_where_that_is_shown_to_tell_what_is_wanted_next() -> None:
    """Six articles a day, of which most readers of each hour open the latest or, without a pattern, any."""
    hour = np.arange(1_200) // 5
    rng = np.random.default_rng(0)
    for is_news in (True, False):
        items = hour // 4 if is_news else rng.integers(0, 60, len(hour))
        readers = Sequences.build(
            user_keys=[f"reader-{number}" for number in range(len(hour))], user_index=np.arange(len(hour)),
            item_index=items, event_type=np.full(len(hour), LIKE), value=np.full(len(hour), np.nan),
            occurred_at=hour * HOUR, feedback_id=np.arange(len(hour)), event_types=EVENT_TYPES,
        )  # fmt: skip
        log, later = EventLog.of(readers), np.flatnonzero(hour >= 100)
        found = ValidationCases.of(readers, later)
        nothing = np.zeros((len(later), 60), dtype=bool)
        last_hour, last_month = (RecentPopularity(np.zeros(60), 0, days) for days in (1 / 24, 30.0))
        expected = last_hour.half_life_days if is_news else None
        assert trending_half_life_days(found, log, nothing, last_hour, 10) == expected
        assert trending_half_life_days(found, log, nothing, last_month, 10) is None
        assert trending_half_life_days(found.take(np.arange(1)), log, nothing[:1], last_hour, 10) is None


def test_a_model_keeps_its_weights_and_an_older_one_has_the_usual_ones(
    fitted: Fitted, catalogue: Catalogue, tmp_path: Path
) -> None:
    assert fitted.metrics["live_strength"] == fitted.model.live_interest.strength
    model = fitted.model.clone()
    model.live_interest = LiveInterest(4.0, 0.5, 2.0, 0.125, 0.75)
    save_recommender(model, tmp_path)
    assert load_recommender(tmp_path).with_catalogue(catalogue).live_interest == LiveInterest(
        4.0, 0.5, 2.0, 0.125, 0.75
    )
    assert model.clone().live_interest == LiveInterest(4.0, 0.5, 2.0, 0.125, 0.75)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["live_interest"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert load_recommender(tmp_path).live_interest == LiveInterest()
