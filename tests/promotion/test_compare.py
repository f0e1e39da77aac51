import numpy as np
import pytest
from typer.testing import CliRunner

from recsys.commands import models
from recsys.commands.main import app
from recsys.errors import RegistryError
from recsys.evaluation.ranking.metrics import metric_names, ndcg_name
from recsys.evaluation.result import Evaluation, Figure, SliceResult
from recsys.evaluation.store import store_evaluation
from recsys.promotion.compare import compare_versions
from recsys.registry.registration import register_version
from recsys.registry.tracking import track_evaluation, track_training

pytestmark = pytest.mark.usefixtures("mlflow_database")

K = 10
USERS = 200


def _evaluation(gain, champion_version):
    """The candidate's NDCG is the champion's and a gain, user by user."""
    metrics = metric_names(K)
    values = np.zeros((USERS, 2, len(metrics)))
    champion = np.random.default_rng(0).random(USERS)
    values[:, 0, metrics.index(ndcg_name(K))] = champion + gain
    values[:, 1, metrics.index(ndcg_name(K))] = champion
    keys = np.array([f"{number:032x}" for number in range(USERS)], dtype=object)
    result = SliceResult(keys, np.ones(USERS, dtype=np.int64), values)
    mean = float(values[:, 0, metrics.index(ndcg_name(K))].mean())
    return Evaluation(
        k=K,
        scorers=("candidate", "champion"),
        slices={"all": result},
        coverage={"candidate": 0.5, "champion": 0.5},
        failures={},
        champion_version=champion_version,
        figures=(Figure("candidate", "all", ndcg_name(K), mean, mean, mean, USERS),),
    )


@pytest.fixture
def quick(settings):
    return settings.model_copy(
        update={"evaluation": settings.evaluation.model_copy(update={"bootstrap_resamples": 200})}
    )


@pytest.fixture
def versions(warehouse, quick, make_training, lineage):
    """Three versions: "2" is a micro-update of "1" and was compared with it, "3" was not."""
    for number, parent, gain in (("1", None, 0.0), ("2", "1", 0.05), ("3", None, 0.1)):
        run_key = f"run:{number}"
        training = make_training(run_key, kind="micro" if parent else "full", bias=float(number))
        source = lineage.model_copy(update={"parent": parent, "window_ids": (int(number),)})
        lower = quick.training.model_copy(update={"epochs": 7}) if number == "3" else quick.training
        run_id = track_training(quick.model_copy(update={"training": lower}), run_key, training, source)
        evaluation = _evaluation(gain, parent)
        folder = quick.runs / "full" / number / "evaluation"
        evaluation.save(folder / "held_out")
        track_evaluation(quick, run_id, evaluation, folder)
        register_version(
            quick, run_id=run_id, run_key=run_key, training=training, lineage=source, evaluation=evaluation
        )
        store_evaluation(warehouse, run_key, evaluation, {"candidate": number, "champion": parent})


def test_two_versions_are_compared_side_by_side(warehouse, quick, versions, monkeypatch):
    compared = compare_versions(warehouse, quick, "1", "2")
    assert compared.origin["kind"] == ("full", "micro")
    assert compared.lineage == (("1",), ("2", "1"))
    first, second = compared.metrics["all", ndcg_name(K)]
    assert second - first == pytest.approx(0.05)
    assert {name.split(".")[0] for name in compared.settings} == {"micro_update"}
    # 2 was the candidate and 1 its champion; in the other order the sign changes.
    for versions_, sign in (("12", 1), ("21", -1)):
        paired = compare_versions(warehouse, quick, *versions_).paired
        assert paired.users == USERS
        difference = paired.difference[ndcg_name(K)]
        assert difference.value == pytest.approx(sign * 0.05)
        assert difference.low == pytest.approx(sign * 0.05)

    monkeypatch.setattr(models, "load_settings", lambda: quick)
    shown = CliRunner().invoke(app, ["compare", "1", "2"]).output
    for part in ("Origin", "2 < 1", "On the same feedback: 200 users", "+0.0500", "Settings that differ"):
        assert part in shown, part

    unpaired = compare_versions(warehouse, quick, "1", "3")
    assert unpaired.paired is None
    assert unpaired.settings == {"training.epochs": (str(quick.training.epochs), "7")}
    with pytest.raises(RegistryError, match="no full snapshot"):
        compare_versions(warehouse, quick, "1", "3", evaluate=True)
    with pytest.raises(RegistryError, match="there is no version 9"):
        compare_versions(warehouse, quick, "1", "9")


def test_a_version_has_few_tags_which_code_reads(quick, versions):
    from recsys.registry.versions import load_version

    tags = load_version(quick, "2").tags
    assert tags["recsys.parent_version"] == "1"
    assert len(tags) <= 13, sorted(tags)
