"""What a search varies, and what it leaves as somebody has set it."""

import pytest
from pydantic import ValidationError

from recsys.settings import ModelSettings, Settings, TrainingSettings, load_settings
from recsys.tuning.space import SPACE, Range, distributions, is_set, values_of, varied, with_values


def test_every_searched_setting_exists_and_may_have_every_searched_value() -> None:
    for name, space in SPACE.items():
        values = (space.low, space.high) if isinstance(space, Range) else space.values
        for value in values:
            assert values_of(with_values(Settings(), {name: value}), [name]) == {name: value}


def test_what_the_environment_sets_is_not_varied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_MODEL__DROPOUT", "0.3")  # its default, but somebody's decision
    monkeypatch.setenv("RECSYS_TRAINING__EPOCHS", "7")
    settings = load_settings()
    assert is_set(settings, "model.dropout")
    assert varied(settings) == [name for name in SPACE if name != "model.dropout"]


def test_the_present_value_can_be_drawn_even_if_it_is_outside_the_usual_range() -> None:
    settings = Settings(training=TrainingSettings(learning_rate=0.5), model=ModelSettings(dim=6, dropout=0))
    present = values_of(settings, list(SPACE))
    drawn_from = distributions(settings, present)
    assert all(
        drawn_from[name]._contains(drawn_from[name].to_internal_repr(present[name])) for name in present
    )


def test_only_widths_that_the_heads_divide_are_drawn() -> None:
    settings = Settings(model=ModelSettings(heads=3, dim=96))
    drawn_from = distributions(settings, values_of(settings, ["model.dim"]))
    assert drawn_from["model.dim"].choices == (96,)


def test_a_value_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ValidationError):
        with_values(Settings(), {"model.dropout": 1.5})
