"""Run the versioned migrations of the warehouse (`sql/migrations`), forward only."""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from recsys.errors import ConfigurationError
from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.engine import connect
from recsys.warehouse.statements import sql_path


def upgrade_warehouse(url: str, revision: str = "head") -> None:
    """Migrate the warehouse to a revision, from an empty database or from any earlier revision.

    The whole upgrade is one transaction. A second process waits for the first and then has nothing to do.

    Raises
    ------
    ConfigurationError
        The URL is wrong, the revision is unknown, pgvector is not installed, or a newer version of recsys has
        migrated the database.
    """
    engine = connect(url)
    config = _config()
    try:
        with engine.begin() as connection:
            lock(connection, "upgrade_warehouse")
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
            "the warehouse's Postgres lacks the extension pgvector; install it on the server "
            "(https://github.com/pgvector/pgvector) and run `recsys migrate` again"
        ) from error
    finally:
        engine.dispose()


def revisions() -> list[str]:
    """Return the names of all revisions, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def _config() -> Config:
    config = Config()
    # ConfigParser treats % as the start of an interpolation.
    config.set_main_option("script_location", str(sql_path("migrations")).replace("%", "%%"))
    return config
