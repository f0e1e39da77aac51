import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.errors import TrainingError
from recsys.model.checkpoint import load_recommender, save_recommender
from recsys.model.fusion import SUCCESSION
from recsys.model.ranking import mask_hidden, top_k
from recsys.settings import Settings
from recsys.snapshot.sequences import Catalogue, Sequences
from recsys.training import full as full_module
from recsys.training import other_parts
from recsys.training.data import training_data
from recsys.training.full import Fitted, fit_full
from recsys.training.trainer import Trainer, schedule
from tests.small_models import EVENT_TYPES, HOUR, histories, liked, small_settings, theme_of, theme_world


def test_losses_fall_and_validation_rises(fitted: Fitted) -> None:
    first, last = fitted.history[0], fitted.history[-1]
    assert last["next_item"] < first["next_item"]
    assert fitted.metrics["validation_ndcg_with_request"] > 0.3
    assert fitted.metrics["validation_ndcg_fused"] > 0.3
    assert fitted.best_epoch >= 1
    assert {"fusion_liking", "fusion_collaborative", "fusion_popularity"} <= fitted.metrics.keys()


def test_recommendations_are_of_the_users_theme(fitted: Fitted, catalogue: Catalogue) -> None:
    past = histories(catalogue, liked("space-1", "space-2", "space-3"), liked("crime-5", "crime-6"))
    index, _ = top_k(mask_hidden(fitted.model.score(past), past), 5)
    for row, theme in zip(index, ["space", "crime"], strict=True):
        assert sum(theme_of(catalogue.item_ids[item]) == theme for item in row) >= 4


@pytest.mark.parametrize("mode", ["top_layers", "lora", "full"])
def test_training_only_the_text_encoder_lowers_the_loss(
    catalogue: Catalogue, quick: Settings, mode: str
) -> None:
    """Everything but the text encoder is frozen, so nothing else can lower the loss."""
    world = theme_world(catalogue, users=200)
    settings = quick.model_copy(
        update={
            "model": quick.model.model_copy(update={"fine_tuning": mode, "dropout": 0.0, "id_dropout": 0.0}),
            "training": quick.training.model_copy(
                update={"text_learning_rate": 1e-2, "text_items_per_step": 36, "request_steps": 0}
            ),
        }
    )
    torch.manual_seed(0)
    model = full_module._build(catalogue, EVENT_TYPES, settings, torch.device("cpu"))
    trainer = full_module._trainer(model, training_data([world], len(catalogue)), settings.training)
    model.items.trained[:] = True
    trainer.objective.trained = torch.arange(len(catalogue))
    for group in trainer.optimizer.param_groups[:2]:
        group["peak"] = 0.0
    assert model.text is not None
    weights = {name: value.clone() for name, value in model.text.trained_state().items()}
    vectors = model.text_vectors.clone()
    losses = [trainer.train_epoch(epoch)["next_item"] for epoch in range(4)]
    assert losses[-1] < losses[0] - 0.01
    moved = [
        name for name, value in model.text.trained_state().items() if not torch.equal(value, weights[name])
    ]
    assert len(moved) > len(weights) / 2
    assert (model.text_vectors - vectors).abs().amax(1).gt(1e-3).all()


def test_text_vectors_match_the_trained_text_encoder(fitted: Fitted, catalogue: Catalogue) -> None:
    fresh = fitted.model.text_encoder().encode(catalogue.texts)
    assert torch.allclose(fresh, fitted.model.text_vectors, atol=1e-4)


@pytest.mark.parametrize(
    "training", [{}, {"full_softmax_items": 10, "sampled_negatives": 12}], ids=["full softmax", "sampled"]
)
def test_a_killed_run_resumes_and_ends_like_an_uninterrupted_one(
    catalogue: Catalogue,
    world: Sequences,
    quick: Settings,
    tmp_path: Path,
    fitted: Fitted,
    training: dict[str, int],
) -> None:
    if training:
        quick = quick.model_copy(update={"training": quick.training.model_copy(update=training)})
        fitted = fit_full(catalogue, EVENT_TYPES, world, quick, tmp_path / "uninterrupted")

    class KilledError(Exception):
        pass

    def kill_after_two(row: dict[str, object]) -> None:
        if row["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit_full(catalogue, EVENT_TYPES, world, quick, tmp_path, report=kill_after_two)
    resumed = fit_full(catalogue, EVENT_TYPES, world, quick, tmp_path)
    assert len(resumed.history) == len(fitted.history)
    for name in ("next_item", "validation_ndcg"):
        assert resumed.history[1][name] == pytest.approx(fitted.history[1][name], rel=1e-3)
        assert resumed.history[-1][name] == pytest.approx(fitted.history[-1][name], rel=0.15)


def test_a_run_with_other_settings_does_not_resume(
    catalogue: Catalogue, world: Sequences, quick: Settings, tmp_path: Path
) -> None:
    one = quick.model_copy(update={"training": quick.training.model_copy(update={"epochs": 1})})
    fit_full(catalogue, EVENT_TYPES, world, one, tmp_path)
    two = quick.model_copy(update={"training": quick.training.model_copy(update={"epochs": 1, "seed": 5})})
    rows: list[dict[str, object]] = []
    fit_full(catalogue, EVENT_TYPES, world, two, tmp_path, report=rows.append)
    assert len(rows) == 1


def test_training_stops_when_validation_stops_improving(
    catalogue: Catalogue, world: Sequences, quick: Settings, tmp_path: Path
) -> None:
    never = quick.training.model_copy(
        update={"learning_rate": 1e-9, "text_epochs": 0, "patience": 1, "epochs": 9}
    )
    result = fit_full(catalogue, EVENT_TYPES, world, quick.model_copy(update={"training": never}), tmp_path)
    assert len(result.history) <= 4
    assert "no gain" in result.stopped_because


def test_a_nan_loss_ends_training_with_a_remedy(
    catalogue: Catalogue, world: Sequences, quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_total", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(TrainingError, match="RECSYS_TRAINING__LEARNING_RATE"):
        fit_full(catalogue, EVENT_TYPES, world, quick, tmp_path)


@pytest.mark.parametrize(
    "events",
    [liked("space-0"), liked("space-0", "space-1"), [("space-0", 2, float("nan"))], liked("space-0") * 300],
    ids=["one event", "one user", "a rating without value", "one item"],
)
def test_very_little_feedback_gives_finite_scores(
    events: list[tuple[str, int, float]], catalogue: Catalogue, quick: Settings, tmp_path: Path
) -> None:
    past = histories(catalogue, events)
    result = fit_full(catalogue, EVENT_TYPES, past, quick, tmp_path)
    assert np.isfinite(result.model.score(past)).all()


def test_sequences_without_events_are_refused(catalogue: Catalogue, quick: Settings, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no feedback"):
        fit_full(catalogue, EVENT_TYPES, Sequences.empty(), quick, tmp_path)


def test_sampled_softmax_without_collaborative_filtering_trains(
    catalogue: Catalogue, world: Sequences, quick: Settings, tmp_path: Path
) -> None:
    large = quick.model_copy(
        update={
            "model": quick.model.model_copy(update={"collaborative_pairs": 0}),
            "training": quick.training.model_copy(update={"full_softmax_items": 10, "sampled_negatives": 12}),
        }
    )
    result = fit_full(catalogue, EVENT_TYPES, world, large, tmp_path)
    assert result.model.collaborative is None
    assert result.metrics["validation_ndcg_fused"] > 0.3


def test_a_second_run_encodes_no_text_again(
    catalogue: Catalogue, world: Sequences, encoder_folder: Path, tmp_path: Path
) -> None:
    settings = small_settings(tmp_path, encoder_folder, epochs=1)
    fit_full(catalogue, EVENT_TYPES, world, settings, tmp_path / "first")
    [file] = (settings.runs / "text-cache").glob("*.safetensors")
    before = file.stat().st_mtime_ns
    fit_full(catalogue, EVENT_TYPES, world, settings, tmp_path / "second")
    assert file.stat().st_mtime_ns == before


def test_feedback_without_values_trains(
    catalogue: Catalogue, world: Sequences, quick: Settings, tmp_path: Path
) -> None:
    blank = replace(world, value=np.full_like(world.value, np.nan))
    result = fit_full(catalogue, EVENT_TYPES, blank, quick, tmp_path)
    assert all(math.isfinite(row["next_item"]) for row in result.history)


def test_the_learning_rate_rises_and_then_falls_to_a_tenth() -> None:
    rates = [schedule(step, 100, 0.1) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(0.1)


def test_a_checkpoint_of_a_trained_model_gives_the_same_scores(
    fitted: Fitted, catalogue: Catalogue, world: Sequences, tmp_path: Path
) -> None:
    save_recommender(fitted.model, tmp_path / "checkpoint")
    some = world.take_users(range(5))
    loaded = load_recommender(tmp_path / "checkpoint").with_catalogue(catalogue)
    assert np.allclose(loaded.score(some), fitted.model.score(some), atol=1e-4)
    asked = ["rocket"] * 5
    assert np.allclose(loaded.score(some, asked), fitted.model.score(some, asked), atol=1e-3)


def test_who_comes_back_gets_the_usual_and_who_stays_gets_something_else(
    catalogue: Catalogue, quick: Settings, tmp_path: Path
) -> None:
    """Each visit begins with the user's favourite; the rest of it is new."""
    rng = np.random.default_rng(0)
    names = catalogue.item_ids.astype(str)
    chosen = [names[rng.permutation(36)[:13]].tolist() for _ in range(40)]
    users = [[own[0] if n % 4 == 0 else own[n - n // 4] for n in range(16)] for own in chosen]
    past = histories(catalogue, *(liked(*own) for own in users))
    number = np.arange(past.events) % 16
    times = number // 4 * 24 * HOUR + number % 4 * HOUR // 60 + past.event_users() * HOUR
    past = replace(past, occurred_at=times, hide_days=np.zeros(past.events, dtype=np.float32))
    training = quick.training.model_copy(update={"epochs": 1, "request_steps": 0})
    fitted = fit_full(catalogue, EVENT_TYPES, past, quick.model_copy(update={"training": training}), tmp_path)
    assert fitted.metrics["validation_ndcg_returning"] > fitted.metrics["validation_ndcg_fused"]
    favourites = past.item_index[past.offsets[:-1]]
    later, now = past.asked(past.moments + 24 * HOUR), past.asked(past.moments + HOUR // 60)
    assert (fitted.model.score(later).argmax(axis=1) == favourites).mean() > 0.9
    assert (fitted.model.score(now).argmax(axis=1) == favourites).mean() < 0.5


def test_what_follows_what_is_counted_only_where_validation_gains_from_it(
    fitted: Fitted,
    catalogue: Catalogue,
    world: Sequences,
    quick: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Users of this world take the items of a theme in order."""
    assert fitted.model.fusion.weights[SUCCESSION] > 0
    assert fitted.model.succession is not None
    first, second = catalogue.lookup(["space-4", "space-5"])
    assert fitted.model.succession.counts[first, second] > 0
    monkeypatch.setattr(other_parts, "LEAST_GAIN_OF_SUCCESSION", 1e6)
    once = quick.model_copy(update={"training": quick.training.model_copy(update={"epochs": 1})})
    without = fit_full(catalogue, EVENT_TYPES, world, once, tmp_path).model
    assert without.succession is None
    for fusion in (without.fusion, without.returning_fusion, without.request_fusion):
        assert SUCCESSION not in fusion.weights
