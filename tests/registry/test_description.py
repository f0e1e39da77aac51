import numpy as np
import pytest

from recsys.evaluation.ranking.metrics import metric_names
from recsys.evaluation.result import Evaluation, Figure, SliceResult
from recsys.registry.connection import mlflow_client
from recsys.registry.description import describe, describe_decision
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_training

CATALOGUE = ("coverage_at_10", "gini_at_10")


def evaluated(champion):
    scorers = ("candidate", "champion", "popularity") if champion else ("candidate", "popularity")
    values = np.zeros((40, len(scorers), len(metric_names(10))))
    result = SliceResult(np.array([f"{n}" for n in range(40)], dtype=object), np.full(40, 2), values)
    figures = tuple(
        Figure(scorer, "all", metric, 0.25 if scorer == "candidate" else 0.125, 0.0625, 0.5, 40)
        for scorer in scorers
        for metric in (*metric_names(10), *CATALOGUE)
    )
    return Evaluation(10, scorers, {"all": result}, {}, {}, champion, figures)


def test_a_description_shows_candidate_and_champion_and_where_the_version_comes_from(make_training, lineage):
    text = describe(
        "7", make_training(), lineage, evaluated("3"), "MiniLM", {"Evaluation": "http://mlflow/r"}
    )
    assert "80 held-out events of 40 users; the champion is version 3." in text
    assert "| candidate | 0.2500 (0.0625 to 0.5000) |" in text
    assert "| champion | 0.1250 (0.0625 to 0.5000) |" in text
    assert "popularity" not in text
    assert f"window 1, text encoder `MiniLM`. Snapshot `{lineage.snapshot.uri}`" in text
    assert "`analytics.promotion_history`" in text
    assert "`model_version = '7'`" in text
    assert text.endswith("[Evaluation](http://mlflow/r)")


def test_an_update_that_learns_what_several_windows_brought_names_the_first_and_the_last(
    make_training, lineage
):
    learned = lineage.model_copy(update={"window_ids": (3, 4, 9)})
    text = describe("7", make_training(), learned, None, None, {})
    assert "windows 3 to 9. Snapshot" in text


def test_the_first_version_has_no_champion_beside_it(make_training, lineage):
    text = describe("7", make_training(), lineage, evaluated(None), None, {})
    assert "there was no champion." in text
    assert "| champion |" not in text


def test_a_version_that_could_not_be_compared_says_why(make_training, lineage):
    nothing = Evaluation.of_nothing(10, ("candidate",), "no feedback is held out.", None)
    assert "Nothing could be compared: no feedback is held out." in describe(
        "7", make_training(), lineage, nothing, None, {}
    )


@pytest.mark.usefixtures("mlflow_database")
def test_a_new_decision_replaces_the_earlier_one_and_keeps_the_figures(settings, make_training, lineage):
    training = make_training()
    run_id = track_training(settings, "nightly:1", training, lineage)
    registered = register_version(
        settings,
        run_id=run_id,
        run_key="nightly:1",
        training=training,
        lineage=lineage,
        evaluation=evaluated("3"),
    )
    client, name = mlflow_client(settings), settings.registered_model

    def shown():
        return client.get_model_version(name, registered.version).description

    figures = shown()
    assert figures.startswith("### Measured")
    describe_decision(settings, registered.version, "waits for a person")
    describe_decision(settings, registered.version, "promoted: better.")
    assert shown() == f"promoted: better.\n\n{figures}"
    client.update_model_version(name, registered.version, "Anna: I looked at it.")
    describe_decision(settings, registered.version, "rolled back")
    assert shown() == "rolled back"
