"""Versioned migrations of the warehouse (`sql/migrations`), forward only."""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from recsys.errors import ConfigurationError
from recsys.warehouse.engine import connect
from recsys.warehouse.statements import sql_path

# Any constant: everyone who migrates this database waits for it.
_LOCK_KEY = 0x7265637379735F6D


def upgrade_warehouse(url: str, revision: str = "head") -> None:
    """Bring the warehouse to a revision, from empty or from any earlier one.

    The whole upgrade is one transaction. A second process waits for the first and finds nothing
    left to do.

    Raises
    ------
    ConfigurationError
        The URL is wrong, the revision unknown, pgvector not installed, or the database belongs to
        a newer version of recsys.
    """
    engine = connect(url)
    config = _config()
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except CommandError as error:
        raise ConfigurationError(
            f"cannot migrate the warehouse to {revision!r}: {error}; known revisions are "
            f"{', '.join(revisions())}"
        ) from error
    except sa.exc.NotSupportedError as error:
        if "vector" not in str(error.orig):
            raise
        raise ConfigurationError(
            "the warehouse's Postgres lacks the extension pgvector: install it on the server "
            "(https://github.com/pgvector/pgvector) and migrate again"
        ) from error
    finally:
        engine.dispose()


def revisions() -> list[str]:
    """Return the names of all revisions, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def _config() -> Config:
    config = Config()
    # The option is a ConfigParser value, where % would start an interpolation.
    config.set_main_option("script_location", str(sql_path("migrations")).replace("%", "%%"))
    return config
