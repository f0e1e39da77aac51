import json

import numpy as np
import pytest

from recsys.model.attributes import NO_LABEL, attribute_labels
from recsys.model.collaborative import EASE
from recsys.model.explanation import COLLABORATIVE, POPULAR, SIMILAR, Explainer, explain
from recsys.model.ranking import NO_ITEM
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue
from tests.small_models import RATING, disliked, histories, liked, theme_world


def test_the_event_that_speaks_most_for_an_item_is_named(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, *[liked("space-0", "space-1"), liked("crime-0", "crime-1")] * 4)
    recommender.collaborative = EASE.fit(past, len(catalogue), 1.0)
    mine = histories(catalogue, [("space-0", RATING, 5.0), *liked("crime-0")])
    wanted = catalogue.lookup(["space-1", "crime-1"])[None]
    ((space, crime),) = explain(recommender, mine, wanted)
    assert space.sentence.startswith("Because you rated rocket and planet highly")
    assert space.kind == COLLABORATIVE
    assert [catalogue.item_ids[e.item_index] for e in space.evidence] == ["space-0"]
    assert crime.sentence.startswith("Because you liked detective and murder")


def test_what_collaborative_filtering_adds_is_the_events_contribution(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    recommender.collaborative = EASE.fit(theme_world(catalogue), len(catalogue), 1.0)
    mine = histories(catalogue, liked("space-0", "space-2", "crime-0"))
    wanted = catalogue.lookup(["space-1"])
    ((reason,),) = explain(recommender, mine, wanted[None], most=2)
    own = recommender.collaborative.weights[:, [int(wanted[0])]].toarray()[:, 0]
    best = max(mine.item_index, key=lambda item: own[item])
    assert reason.evidence[0].item_index == best
    assert reason.evidence[0].contribution == pytest.approx(own[best], rel=1e-5)
    assert [e.contribution for e in reason.evidence] == sorted(
        (e.contribution for e in reason.evidence), reverse=True
    )


def test_what_collaborative_filtering_does_not_know_is_explained_by_likeness(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    ((reason,),) = explain(recommender, histories(catalogue, liked("space-0")), np.array([[1]], np.int32))
    assert reason.kind in (SIMILAR, POPULAR)
    assert reason.sentence


def test_an_attribute_counts_as_much_as_its_items_score(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, liked("space-0"), liked("cooking-1", "cooking-2"))
    scores = recommender.score(past)
    themes = np.array([row["theme"] for row in catalogue.attributes])
    reasons = explain(recommender, past, np.tile(np.arange(len(catalogue), dtype=np.int32), (2, 1)))
    for user, row in enumerate(reasons):
        for theme, reason in zip(themes, row, strict=True):
            of_theme = scores[user, themes == theme]
            expected = of_theme.sum() / (len(of_theme) + 5)
            found = {a.label: a.contribution for a in reason.attributes}
            if expected > 0:
                assert found[f"theme: {theme}"] == pytest.approx(expected, abs=1e-4)
            else:
                assert not found


def test_what_the_evidence_has_in_common_is_said(recommender: Recommender, catalogue: Catalogue) -> None:
    recommender.collaborative = EASE.fit(theme_world(catalogue), len(catalogue), 1.0)
    past = histories(catalogue, *[liked(f"{theme}-0") for theme in ("space", "cooking", "crime")])
    wanted = np.stack([catalogue.lookup([f"{theme}-1"]) for theme in ("space", "cooking", "crime")])
    for (reason,) in explain(recommender, past, wanted):
        said = "(also theme: " in reason.sentence
        assert said == bool(reason.evidence and reason.attributes)


def test_a_dislike_is_no_reason_and_a_user_without_history_gets_the_popular(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, disliked("space-0"), [])
    reasons = explain(recommender, past, np.array([[1, NO_ITEM], [2, 3]], np.int32))
    assert [[r.kind for r in row] for row in reasons] == [[POPULAR, POPULAR], [POPULAR, POPULAR]]
    assert reasons[0][1].sentence == ""
    assert reasons[1][0].sentence == "Popular with others"


def test_users_are_explained_together_as_they_are_alone(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(
        catalogue, liked("space-0", "crime-1", "space-0"), [], disliked("crime-1") + liked("crime-2")
    )
    recommender.collaborative = EASE.fit(theme_world(catalogue), len(catalogue), 1.0)
    scorer = recommender.scorer()
    explainer = Explainer(scorer)
    users = scorer.user_vectors(past)
    items = np.array([[1, 7, NO_ITEM], [2, 3, 4], [30, 31, 12]], np.int32)
    together = explainer(past, users, items)
    for row in range(3):
        alone = explainer(past.take_users([row]), users[row : row + 1], items[row : row + 1])
        assert alone.sentences()[0] == together.sentences()[row]
        assert [r.kind for r in alone.reasons()[0]] == [r.kind for r in together.reasons()[row]]


def test_reasons_are_json(recommender: Recommender, catalogue: Catalogue) -> None:
    past = histories(catalogue, liked("space-0", "crime-1"))
    ((first, empty),) = explain(recommender, past, np.array([[1, NO_ITEM]], np.int32))
    content = json.loads(json.dumps(first.to_dict(catalogue)))
    assert content["item_id"] == "space-1"
    assert {event["item_id"] for event in content["evidence"]} <= {"space-0", "crime-1"}
    assert content["sentence"] == first.sentence
    assert empty.to_dict(catalogue)["item_id"] is None


def test_labels_are_what_several_items_have() -> None:
    labels, of_item = attribute_labels(
        [{"genres": ["Crime", "Drama"], "id": 1}, {"genres": "Drama", "id": 2}, {}, {"genres": None}]
    )
    assert labels == ["genres: Drama"]
    assert of_item.tolist() == [[0], [0], [NO_LABEL], [NO_LABEL]]
