"""What follows from the end of an experiment: the registry notes it, and a winner may be promoted."""

from datetime import datetime

import sqlalchemy as sa

from recsys.experiments.experiment import Experiment
from recsys.experiments.readout import latest_readout
from recsys.promotion import ledger
from recsys.promotion.ledger import LedgerEntry
from recsys.promotion.promote import promote
from recsys.registry.versions import tag_version
from recsys.settings import Settings
from recsys.warehouse.tables import experiments

REASON = "better_in_experiment"


def promote_winner(
    engine: sa.Engine, settings: Settings, experiment_id: int, *, run_key: str, now: datetime
) -> LedgerEntry | None:
    """Tag the challenger with the outcome; promote it if it won and `gate.require_experiment` is set.

    A retry finds the promotion of the first attempt.

    Returns
    -------
    LedgerEntry | None
        The promotion; None: nothing is promoted.

    Raises
    ------
    PromotionConflictError
        Another version becomes champion at the same moment; run it again.
    ErasedUsersError
        The version may not be served any more.
    """
    with engine.connect() as connection:
        row = connection.execute(
            sa.select(experiments).where(experiments.c.experiment_id == experiment_id)
        ).one()
        found = latest_readout(connection, experiment_id)
    experiment = Experiment(**row._asdict())
    if experiment.outcome is None or found is None:
        return None
    text = f"{experiment.name}: {experiment.outcome}"
    tag_version(settings, experiment.challenger, {"recsys.experiment": text})
    if experiment.outcome != "challenger_better" or not settings.gate.require_experiment:
        return None
    champion = ledger.champion(engine)
    return promote(
        engine,
        settings,
        experiment.challenger,
        None if champion is None else champion.model_version,
        reason=REASON,
        explanation=f"promoted: experiment {experiment.name}, {experiment.explanation}",
        checks=found.readings,
        actor=run_key,
        run_key=run_key,
        now=now,
    )
