"""Who gets whose list while an experiment runs.

Users are staged with those of the challenger last, so that each version scores consecutive users. Users of
the hold-out are not staged at all: they have no list, and get what is trending and popular.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from recsys.errors import CheckpointError, RegistryError
from recsys.experiments.experiment import Experiment, running
from recsys.publishing.servable import Servable
from recsys.settings import Settings
from recsys.warehouse.pseudonyms import fill_user_keys

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Challenger:
    """The version that some users get, ready to score.

    Attributes
    ----------
    first
        Position of its first user among the staged ones; users from there on are its own.
    interleaved
        Its users get lists that both versions pick in turn.
    """

    experiment_id: int
    version: str
    servable: Servable
    first: int = 0
    interleaved: bool = False


def load_challenger(
    engine: sa.Engine, settings: Settings, load: Callable[[Settings, str], Servable], moment: datetime
) -> Challenger | None:
    """Return the challenger of the running experiment; None without one.

    An experiment that cannot go on ends here, with a named reason. Users get the keys that choose their arms.
    """
    # Imported here because workers of shards need no MLflow.
    from recsys.experiments.validity import end_invalid, running_if_valid

    experiment = running_if_valid(engine, settings, moment)
    if experiment is None:
        return None
    try:
        servable = load(settings, experiment.challenger)
    except (RegistryError, CheckpointError) as error:
        why = f"version {experiment.challenger} cannot be loaded: {error}"
        end_invalid(engine, settings, experiment, "challenger_unusable", why, now=moment)
        return None
    fill_user_keys(engine, settings.require_pseudonym_key())
    return Challenger(
        experiment.experiment_id,
        experiment.challenger,
        servable,
        interleaved=experiment.kind == "interleave",
    )


def running_experiment(engine: sa.Engine) -> Experiment | None:
    """Return the experiment that runs."""
    with engine.connect() as connection:
        return running(connection)


def divide(first: int, last: int, challenger_first: int | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the positions (first, last) of the champion's users and of the challenger's in a range."""
    border = last if challenger_first is None else min(max(challenger_first, first), last)
    return (first, border), (border, last)


def count_champions_users(connection: sa.Connection) -> int:
    """Return how many of the staged users get the champion's list."""
    count: int = connection.exec_driver_sql(
        "select count(*) from staged_users where model_version is null"
    ).scalar_one()
    connection.commit()
    return count
