from recsys.evaluation.ranking.baselines import COLLABORATIVE_FILTERING, POPULARITY, fit_baselines
from recsys.evaluation.ranking.cases import held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate


def _rows(pairs, users, start):
    """Return rows of users who like both items of one pair, the second a minute after the first."""
    rows = []
    for number in range(users):
        first, second = pairs[number % len(pairs)]
        rows.append((f"u{start}-{number:03}", first, start + 2 * number, "like", "full"))
        rows.append((f"u{start}-{number:03}", second, start + 2 * number + 1, "like", "full"))
    return rows


def test_collaborative_filtering_beats_popularity_when_items_come_in_pairs(
    make_sequences, catalogue, minute, evaluation_settings
):
    sequences = make_sequences(_rows(["ab", "cd"], 60, 0) + _rows(["ab", "cd"], 20, 1_000), catalogue)
    settings = evaluation_settings.model_copy(update={"k": 1})
    baselines = fit_baselines(sequences, catalogue, minute(1_000), settings)
    result = evaluate(baselines, held_out_cases(sequences, catalogue, minute(1_000), settings), settings)
    assert result.mean(COLLABORATIVE_FILTERING, "recall_at_1") > result.mean(POPULARITY, "recall_at_1")


def test_popularity_prefers_recently_popular_items(make_sequences, catalogue, minute, evaluation_settings):
    day = 24 * 60
    old = [(f"old{n:03}", "a", n, "like", "full") for n in range(200)]
    new = [(f"new{n:03}", "b", 60 * day + 10 * n, "like", "full") for n in range(60)]
    held_out = [("last", "b", 61 * day, "like", "full")]
    sequences = make_sequences(old + new + held_out, catalogue)
    baselines = fit_baselines(sequences, catalogue, minute(61 * day), evaluation_settings)
    scores = baselines[POPULARITY].score(sequences.take_users([0]))[0]
    assert scores[catalogue.index["b"]] > scores[catalogue.index["a"]]


def test_held_out_feedback_does_not_leak_into_the_baselines(
    make_sequences, catalogue, minute, evaluation_settings
):
    trained = _rows(["ab"], 20, 0)
    without = make_sequences([*trained, ("zoe", "c", 1000, "like", "full")], catalogue)
    changed = make_sequences([*trained, ("zoe", "d", 1000, "like", "full")], catalogue)
    first = fit_baselines(without, catalogue, minute(1_000), evaluation_settings)
    second = fit_baselines(changed, catalogue, minute(1_000), evaluation_settings)
    for name in first:
        history = without.take_users([0])
        assert first[name].score(history).tolist() == second[name].score(history).tolist()
