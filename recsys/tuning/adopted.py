"""The settings in force: what somebody has set, else what the champion's search found, else defaults."""

import logging

import sqlalchemy as sa

from recsys.promotion.ledger import champion
from recsys.settings import Settings
from recsys.tuning.space import SPACE, Values, fits, is_set, with_values
from recsys.warehouse.tables import model_versions

logger = logging.getLogger(__name__)


def settings_in_force(engine: sa.Engine, settings: Settings) -> tuple[Settings, Values]:
    """Return the settings with which a full fine-tune trains, and those of them that a search found.

    A search's settings are in force while a version that was trained with them, or an update of it, is
    champion: a rollback to an earlier version takes them back. What somebody has set always wins.
    """
    found: Values = {}
    for name, value in _of_champion(engine).items():
        if name not in SPACE:
            logger.warning("%s = %s of the champion's search is no longer searched and not used", name, value)
        elif is_set(settings, name):
            logger.info("%s: the environment's value is used, not %s of the champion's search", name, value)
        elif not fits(settings, name, value):
            logger.warning("%s = %s of the champion's search does not go with other settings", name, value)
        else:
            found[name] = value
    if found:
        logger.info(
            "settings of the champion's search: %s; set them in the environment to change them",
            ", ".join(f"{name} = {value:.4g}" for name, value in found.items()),
        )
    return (with_values(settings, found) if found else settings), found


def _of_champion(engine: sa.Engine) -> Values:
    current = champion(engine)
    if current is None:
        return {}
    statement = sa.select(model_versions.c.tuned_settings).where(
        model_versions.c.model_version == current.model_version
    )
    with engine.connect() as connection:
        return connection.scalar(statement) or {}
