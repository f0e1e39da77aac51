import numpy as np
import pyarrow as pa

from recsys.snapshot.user_sampling import priorities, stratified_sample, user_numbers

RNG = np.random.default_rng(5)
KEYS = [RNG.bytes(16).hex() for _ in range(4_000)]
NUMBERS = user_numbers(pa.array(KEYS))


def test_a_users_number_comes_from_the_key() -> None:
    assert NUMBERS.tolist() == [int(key[:16], 16) for key in KEYS]
    assert user_numbers(pa.array(KEYS).slice(7, 3)).tolist() == NUMBERS[7:10].tolist()
    assert user_numbers(pa.array([], pa.string())).tolist() == []


def test_each_seed_gives_another_sample() -> None:
    samples = [set(np.argsort(priorities(NUMBERS, seed))[:400]) for seed in (0, 1, 2)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert 20 <= len(samples[one] & samples[other]) <= 60  # 40 are to be expected
    assert np.array_equal(priorities(NUMBERS, 1), priorities(NUMBERS, 1))
    assert len(np.unique(priorities(NUMBERS, 1))) == len(NUMBERS)


def test_strata_keep_their_shares_of_users() -> None:
    events = RNG.geometric(0.05, len(KEYS))
    popularity = RNG.normal(size=len(KEYS))
    chosen = stratified_sample(events, popularity, priorities(NUMBERS, 3), 240)
    assert len(np.unique(chosen)) == 240
    light, rare = np.quantile(events, 0.25), np.quantile(popularity, 1 / 3)
    for group in (events <= light, popularity <= rare, (events <= light) & (popularity <= rare)):
        assert abs(group[chosen].mean() - group.mean()) < 0.02


def test_small_strata_fill_their_places() -> None:
    events = np.array([1, 1, 1, 1, 1, 1, 1, 500])
    chosen = stratified_sample(events, np.zeros(8), priorities(NUMBERS[:8], 0), 8)
    assert chosen.tolist() == list(range(8))
    assert len(stratified_sample(events, np.zeros(8), priorities(NUMBERS[:8], 0), 5)) == 5
    assert len(stratified_sample(events, np.zeros(8), priorities(NUMBERS[:8], 0), 0)) == 0
