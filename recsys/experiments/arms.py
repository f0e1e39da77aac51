"""What the users of each arm of an experiment did, read from the warehouse.

Users are read in batches and added up, so memory does not grow with their number, except for six numbers
of each user who gets interleaved lists.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from recsys.experiments.effects import VARIABLES, Metric, Moments
from recsys.experiments.experiment import Experiment
from recsys.experiments.preference import Interleaved
from recsys.warehouse.statements import read_statement

MIN_USERS = 100
"""Users of an arm below which nothing is read: the bounds are those of large samples."""
MIN_ACTING = 20
"""Users of an arm who did what a metric counts, below which it is not read and not shown."""
MAX_OF_OTHER_ARM = 0.2
"""Share of slates with the other arm's lists above which nothing is read: the arms are not what they seem."""
BEFORE = timedelta(days=28)
"""What users did in this time before is subtracted as far as it predicts what they do now."""

_BATCH = 50_000
_OF_PICKED = tuple(
    f"{what}_of_{version}"
    for what in ("shown", "answered", "disliked")
    for version in ("champion", "challenger")
)


@dataclass
class Arms:
    """What the users of each arm did.

    Attributes
    ----------
    acting
        [variables] by arm: users with any of it.
    slates, of_other_arm
        Slates shown to control and challenger, and those of them with the other arm's lists.
    interleaved
        What users did with lists that both versions picked; None in an experiment without them.
    """

    moments: dict[str, Moments] = field(default_factory=dict)
    acting: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    slates: int = 0
    of_other_arm: int = 0
    interleaved: Interleaved | None = None

    def add(self, arm: str, values: np.ndarray[Any, Any]) -> None:
        """Add users of an arm, [users, variables]."""
        self.moments.setdefault(arm, Moments()).add(values)
        self.acting[arm] = self.acting.get(arm, 0) + (values > 0).sum(axis=0)

    def of(self, arm: str) -> Moments:
        """Return the sums over the users of an arm."""
        return self.moments.get(arm, Moments())

    def can_be_read(self) -> bool:
        """Return whether there are enough users, with the lists of their own arm."""
        enough = min(self.of(arm).users for arm in ("control", "challenger")) >= MIN_USERS
        return enough and not self.are_mixed

    @property
    def are_mixed(self) -> bool:
        """Whether many users were shown what is not for their arm."""
        return self.of_other_arm > MAX_OF_OTHER_ARM * self.slates

    def is_known(self, metric: Metric, arm: str) -> bool:
        """Return whether enough users of an arm did what the metric counts."""
        acting = self.acting.get(arm)
        return acting is not None and acting[VARIABLES.index(metric.numerator)] >= MIN_ACTING


def read_arms(engine: sa.Engine, experiment: Experiment, until: datetime) -> tuple[Arms, dict[str, int]]:
    """Return what users did with slates shown before a moment, and how many are left out, by reason."""
    assert experiment.shown_since is not None
    interleaves = experiment.kind == "interleave"
    parameters = {
        "experiment_id": experiment.experiment_id,
        "before": experiment.shown_since - (timedelta() if interleaves else BEFORE),
        "until": until,
    }
    with engine.connect() as connection:
        # Whole tables are joined, for which a nested loop would be wrong; the planner might choose one.
        connection.exec_driver_sql("set local enable_nestloop = off")
        left_out = connection.execute(sa.text(read_statement("experiments/count_left_out")), parameters).one()
        statement = read_statement(f"experiments/select_{'interleaved_' if interleaves else ''}users")
        rows = connection.execution_options(stream_results=True).execute(
            sa.text(statement.replace("{slates}", read_statement("experiments/select_slates"))), parameters
        )
        arms = (_interleaved if interleaves else _split)(rows.partitions(_BATCH))
    return arms, {reason: int(slates) for reason, slates in left_out._asdict().items()}


def _split(batches: Iterable[Sequence[sa.Row[Any]]]) -> Arms:
    arms = Arms()
    for batch in batches:
        values: dict[str, list[tuple[float, ...]]] = {}
        for row in batch:
            values.setdefault(row.arm, []).append(tuple(getattr(row, name) for name in VARIABLES))
            if row.arm != "hold_out":
                arms.slates += row.all_slates
                arms.of_other_arm += row.of_other_arm
        for arm, users in values.items():
            arms.add(arm, np.array(users))
    return arms


def _interleaved(batches: Iterable[Sequence[sa.Row[Any]]]) -> Arms:
    arms = Arms()
    interleaved = 0
    counts = [np.zeros((0, len(_OF_PICKED)), dtype=np.int64)]
    for batch in batches:
        for arm, users in Counter(row.arm for row in batch).items():
            arms.moments.setdefault(arm, Moments()).users += users
        asked = [row for row in batch if row.arm == "challenger"]
        arms.slates += sum(row.slates for row in asked)
        interleaved += sum(row.interleaved_slates for row in asked)
        picked = [tuple(getattr(row, name) for name in _OF_PICKED) for row in asked]
        counts.append(np.array(picked, dtype=np.int64).reshape(-1, len(_OF_PICKED)))
    shown, answered, disliked = np.hsplit(np.concatenate(counts), 3)
    arms.interleaved = Interleaved(interleaved, shown, answered, disliked)
    arms.of_other_arm = arms.slates - interleaved
    return arms
