"""What benchmarks fit is kept, so that a long measurement survives an interruption."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fits import Fits, Judged, Outcome
from recsys.errors import ConfigurationError

SETTING = {"dataset": "ml-100k", "epochs": 40}


def outcome(value: float) -> Outcome:
    return {"ours": Judged(np.full((3, 2), value), coverage=0.5, seconds=1.5, details={"best_epoch": 7})}


def fails() -> Outcome:
    raise RuntimeError("interrupted")


def tasks(**others: Callable[[], Outcome]) -> dict[str, Callable[[], Outcome]]:
    return {"ours-0": partial(outcome, 0.25), "ours-1": partial(outcome, 0.75), **others}


def test_a_later_call_fits_only_what_is_missing(tmp_path: Path) -> None:
    first = Fits.open(1, tmp_path, SETTING)
    with pytest.raises(RuntimeError, match="interrupted"):
        first.run(tasks(sasrec=fails))

    later = Fits.open(1, tmp_path, SETTING)
    done = later.run({"ours-1": fails, "ours-0": fails, "sasrec": partial(outcome, 0.5)})

    assert list(done) == ["ours-1", "ours-0", "sasrec"]
    judged = done["ours-1"]["ours"]
    np.testing.assert_array_equal(judged.metrics, np.full((3, 2), 0.75))
    assert (judged.coverage, judged.seconds, judged.details) == (0.5, 1.5, {"best_epoch": 7})


def test_several_at_a_time_come_in_the_order_of_the_tasks() -> None:
    done = Fits.open(2, None, SETTING).run(tasks())
    assert [row["ours"].metrics[0, 0] for row in done.values()] == [0.25, 0.75]


def test_what_one_of_several_raises_reaches_the_caller_and_the_others_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="interrupted"):
        Fits.open(2, tmp_path, SETTING).run(tasks(broken=fails))
    assert {path.stem for path in tmp_path.glob("*.json")} == {"setting", "ours-0", "ours-1"}


def test_fits_with_other_settings_are_not_mixed(tmp_path: Path) -> None:
    Fits.open(1, tmp_path, SETTING)
    with pytest.raises(ConfigurationError, match="other settings; choose another folder"):
        Fits.open(1, tmp_path, SETTING | {"epochs": 20})
