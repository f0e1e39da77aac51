"""Users whom a search does not validate on."""

from dataclasses import replace
from hashlib import sha256

import numpy as np

from recsys.snapshot.guard import are_guard_users
from recsys.training.split import are_unseen, split_validation
from tests.small_models import theme_catalogue, theme_world


def _keys(count: int) -> np.ndarray:
    return np.array([sha256(str(n).encode()).hexdigest()[:32] for n in range(count)], dtype=object)


def test_half_of_the_users_are_unseen_and_guard_users_are_among_both_halves() -> None:
    keys = _keys(4_000)
    unseen, guards = are_unseen(keys, 0.5), are_guard_users(keys, 0.1)
    assert 0.45 < unseen.mean() < 0.55
    assert 0.4 < unseen[guards].mean() < 0.6


def test_no_event_of_an_unseen_user_is_a_validation_case_and_all_are_trained_on() -> None:
    world = theme_world(theme_catalogue())
    world = replace(world, user_keys=_keys(world.users))
    everybody, searched = split_validation(world), split_validation(world, unseen_share=0.5)
    unseen = set(world.user_keys[are_unseen(world.user_keys, 0.5)])
    assert unseen & set(everybody.cases.histories.user_keys)
    assert set(searched.cases.histories.user_keys) == set(everybody.cases.histories.user_keys) - unseen
    assert searched.returning is not None
    assert not unseen & set(searched.returning.histories.user_keys)
    assert searched.train.events == everybody.train.events
