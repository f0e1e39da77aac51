import numpy as np

from recsys.model.collaborative import EASE
from recsys.model.explanation import COLLABORATIVE, POPULAR, SIMILAR, explain
from recsys.model.ranking import NO_ITEM
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Catalogue
from tests.small_models import RATING, disliked, histories, liked


def test_the_event_that_speaks_most_for_an_item_is_named(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, *[liked("space-0", "space-1"), liked("crime-0", "crime-1")] * 4)
    recommender.collaborative = EASE.fit(past, len(catalogue), 1.0)
    mine = histories(catalogue, [("space-0", RATING, 5.0), *liked("crime-0")])
    wanted = catalogue.lookup(["space-1", "crime-1"])[None]
    ((space, crime),) = explain(recommender, mine, wanted)
    assert space.sentence == "Because you rated rocket and planet highly"
    assert space.kind == COLLABORATIVE
    assert [catalogue.item_ids[e.item_index] for e in space.evidence] == ["space-0"]
    assert crime.sentence == "Because you liked detective and murder"


def test_what_collaborative_filtering_does_not_know_is_explained_by_likeness(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    ((reason,),) = explain(recommender, histories(catalogue, liked("space-0")), np.array([[1]], np.int32))
    assert reason.kind in (SIMILAR, POPULAR)
    assert reason.sentence


def test_a_dislike_is_no_reason_and_a_user_without_history_gets_the_popular(
    recommender: Recommender, catalogue: Catalogue
) -> None:
    past = histories(catalogue, disliked("space-0"), [])
    reasons = explain(recommender, past, np.array([[1, NO_ITEM], [2, 3]], np.int32))
    assert [[r.kind for r in row] for row in reasons] == [[POPULAR, POPULAR], [POPULAR, POPULAR]]
    assert reasons[0][1].sentence == ""
    assert reasons[1][0].sentence == "Popular with others"
