import numpy as np
import pytest

from recsys.model.attributes import NO_LABEL, attribute_labels
from recsys.model.collaborative import EASE
from recsys.model.explanation import COLLABORATIVE, POPULAR, SIMILAR, ListExplainer
from recsys.model.ranking import NO_ITEM
from recsys.model.reasons import ReasonTexts, packaged_texts
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue
from tests.small_models import RATING, VIEW, disliked, explain, histories, liked, theme_world


def test_the_event_that_supports_an_item_most_is_named(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, *[liked("space-0", "space-1"), liked("crime-0", "crime-1")] * 4)
    recommender.collaborative = EASE.fit(past, len(catalogue), 1.0)
    mine = histories(catalogue, [("space-0", RATING, 5.0), *liked("crime-0")])
    explanations = explain(recommender, mine, catalogue.lookup(["space-1", "crime-1"])[None])
    ((space, crime),) = explanations.sentences()
    assert space.startswith("Because you rated rocket and planet highly")
    assert crime.startswith("Because you liked detective and murder")
    assert explanations.kind.tolist() == [[COLLABORATIVE, COLLABORATIVE]]


def test_the_support_of_an_event_is_what_it_adds_in_collaborative_filtering(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    recommender.collaborative = EASE.fit(theme_world(catalogue), len(catalogue), 1.0)
    mine = histories(catalogue, liked("space-0", "space-2", "crime-0"))
    wanted = catalogue.lookup(["space-1"])
    explanations = explain(recommender, mine, wanted[None])
    weights = recommender.collaborative.weights[:, [int(wanted[0])]].toarray()[:, 0]
    best = max(mine.item_index, key=lambda item: weights[item])
    assert explanations.past.item_index[explanations.event[0, 0]] == best
    assert explanations.event_support[0, 0] == pytest.approx(weights[best], rel=1e-5)


def test_an_item_unknown_to_collaborative_filtering_is_explained_by_similarity(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    explanations = explain(
        recommender, histories(catalogue, liked("space-0")), np.array([[1]], dtype=np.int32)
    )
    assert explanations.kind[0, 0] in (SIMILAR, POPULAR)
    assert explanations.sentences()[0][0]


def test_the_support_of_an_attribute_is_the_shrunk_mean_score_of_its_items(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, liked("space-0"), liked("cooking-1", "cooking-2"))
    scores = recommender.score(past)
    # Every item is explained by an event with an item of the same theme.
    recommender.collaborative = EASE.fit(
        histories(catalogue, *[liked("space-0", "space-1"), liked("cooking-1", "cooking-3")] * 4),
        len(catalogue),
        1.0,
    )
    wanted = np.stack([catalogue.lookup(["space-1"]), catalogue.lookup(["cooking-3"])])
    explanations = explain(recommender, past, wanted)
    for user, theme in enumerate(["space", "cooking"]):
        of_theme = scores[user, [row["theme"] == theme for row in catalogue.attributes]]
        expected = of_theme.sum() / (len(of_theme) + 5)
        if expected > 0:
            label = explanations.explainer.labels[explanations.label[user, 0]]
            assert label == f"theme: {theme}"
            assert explanations.label_support[user, 0] == pytest.approx(expected, abs=1e-4)
        else:
            assert explanations.label[user, 0] == NO_LABEL
    assert (explanations.label != NO_LABEL).any()


def test_a_shared_attribute_is_named_in_the_sentence(recommender: Recommender, catalogue: Catalogue) -> None:
    recommender.collaborative = EASE.fit(theme_world(catalogue), len(catalogue), 1.0)
    past = histories(catalogue, *[liked(f"{theme}-0") for theme in ("space", "cooking", "crime")])
    wanted = np.stack([catalogue.lookup([f"{theme}-1"]) for theme in ("space", "cooking", "crime")])
    explanations = explain(recommender, past, wanted)
    scores = recommender.score(past)
    for user, theme in enumerate(["space", "cooking", "crime"]):
        # A label's support has the sign of its items' mean score without collaborative filtering.
        parts = recommender.parts(past)
        own = scores[user] - recommender.fusion.weights["collaborative"] * parts["collaborative"][user]
        mean = own[[row["theme"] == theme for row in catalogue.attributes]].mean()
        has_event = explanations.kind[user, 0] != POPULAR
        assert (f"(also theme: {theme})" in explanations.sentences()[user][0]) == (has_event and mean > 0)


def test_a_dislike_supports_nothing_and_a_user_without_history_gets_popular_items(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, disliked("space-0"), [])
    explanations = explain(recommender, past, np.array([[1, NO_ITEM], [2, 3]], np.int32))
    assert explanations.kind.tolist() == [[POPULAR, POPULAR], [POPULAR, POPULAR]]
    assert explanations.sentences() == [["Popular with others", ""], ["Popular with others"] * 2]


def test_an_item_that_was_liked_and_then_disliked_is_no_reason(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    recommender.collaborative = EASE.fit(theme_world(catalogue), len(catalogue), 1.0)
    changed_mind = [
        liked("space-0") + disliked("space-0"),
        [("space-0", RATING, 5.0), ("space-0", RATING, 1.0)],
        liked("space-0") + disliked("space-0") + [("space-0", VIEW, float("nan"))],
    ]
    changed_back = disliked("space-0") + liked("space-0")
    past = histories(catalogue, *changed_mind, changed_back)
    wanted = np.repeat(catalogue.lookup(["space-1"])[None], 4, axis=0)
    explanations = explain(recommender, past, wanted)
    liked_title = catalogue.titles[catalogue.lookup(["space-0"])[0]]
    assert explanations.kind[:3].tolist() == [[POPULAR]] * 3
    assert explanations.sentences()[3][0].startswith(f"Because you liked {liked_title}")


def test_each_user_reads_their_own_language(recommender: Recommender, catalogue: Catalogue) -> None:
    recommender.collaborative = EASE.fit(theme_world(catalogue), len(catalogue), 1.0)
    past = histories(catalogue, *[liked("space-0")] * 3, [], [])
    wanted = np.repeat(catalogue.lookup(["space-1"])[None], 5, axis=0)
    texts = [packaged_texts(language) for language in ("en", "de", "zh", "de", "zh")]
    english, german, chinese, *nothing = [
        row[0] for row in explain(recommender, past, wanted).sentences(texts)
    ]
    title = catalogue.titles[catalogue.lookup(["space-0"])[0]]
    assert english.startswith(f"Because you liked {title}")
    assert german.startswith(f"Weil du {title} mit „Gefällt mir“ markiert hast")
    assert chinese.startswith(f"因为您喜欢“{title}”")
    assert nothing == ["Beliebt bei anderen", "大家都喜欢"]


def test_what_is_filled_in_is_not_read_again() -> None:
    title = """O'Hara's "{label}" {did} <b> 100 %s"""
    did = packaged_texts("de").did("purchase", highly=False, title=title)
    assert packaged_texts("de").say("because", did=did, also="") == f"Weil du {title} gekauft hast"
    assert packaged_texts("zh").did("listen", highly=True, title="歌") == "选过“歌”"
    assert packaged_texts().did("rating", highly=False, title=title) == f"rated {title}"
    percent = ReasonTexts("en", {"also": "50 % {label}%"})
    assert percent.say("also", label=title) == f"50 % {title}%"


def test_users_are_explained_in_a_batch_as_they_are_alone(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(
        catalogue, liked("space-0", "crime-1", "space-0"), [], disliked("crime-1") + liked("crime-2")
    )
    recommender.collaborative = EASE.fit(theme_world(catalogue), len(catalogue), 1.0)
    scorer = recommender.scorer()
    explainer = ListExplainer(scorer)
    users = scorer.user_vectors(past)
    items = np.array([[1, 7, NO_ITEM], [2, 3, 4], [30, 31, 12]], np.int32)
    together = explainer(past, users, items)
    for row in range(3):
        alone = explainer(past.take_users([row]), users[row : row + 1], items[row : row + 1])
        assert alone.sentences()[0] == together.sentences()[row]
        assert alone.kind[0].tolist() == together.kind[row].tolist()


def test_labels_are_attribute_values_of_several_items() -> None:
    labels, of_item = attribute_labels(
        [{"genres": ["Crime", "Drama"], "id": 1}, {"genres": "Drama", "id": 2}, {}, {"genres": None}]
    )
    assert labels == ["genres: Drama"]
    assert of_item.tolist() == [[0], [0], [NO_LABEL], [NO_LABEL]]
