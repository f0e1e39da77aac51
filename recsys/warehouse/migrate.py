"""Run the versioned migrations of the warehouse (`sql/migrations`), forward only."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg2 import errorcodes

from recsys.errors import ConfigurationError
from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.engine import connect
from recsys.warehouse.languages import bring_languages
from recsys.warehouse.statements import sql_path

# Older versions of Postgres report the missing control file.
_NO_EXTENSION = (errorcodes.FEATURE_NOT_SUPPORTED, errorcodes.UNDEFINED_FILE)


def upgrade_warehouse(url: str, revision: str = "head") -> None:
    """Migrate the warehouse to a revision, from an empty database or from any earlier revision.

    The whole upgrade is one transaction. A second process waits for the first and then has nothing to do.

    Raises
    ------
    ConfigurationError
        The URL is wrong, the revision is unknown, pgvector is not installed, the user may not change the
        tables, or a newer version of recsys has migrated the database.
    """
    engine = connect(url)
    config = _config()
    try:
        with explained_refusals(), engine.begin() as connection:
            lock(connection, "upgrade_warehouse")
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            if revision in ("head", revisions()[-1]):  # earlier ones refuse texts that are new
                bring_languages(connection)
    except CommandError as error:
        raise ConfigurationError(
            f"cannot migrate the warehouse to {revision!r}: {error}; known revisions are "
            f"{', '.join(revisions())}"
        ) from error
    finally:
        engine.dispose()


@contextmanager
def explained_refusals() -> Iterator[None]:
    """Say what an administrator must do where Postgres refuses a change of the schema."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        explanation = _explain(error)
        if explanation is None:
            raise
        raise ConfigurationError(explanation) from error


def _explain(error: sa.exc.DBAPIError) -> str | None:
    """Return what an administrator must do before the migration can run; None: it is another error."""
    code, reason = getattr(error.orig, "pgcode", None), str(error.orig).strip()
    if code in _NO_EXTENSION and "vector" in reason:
        return (
            "the warehouse's Postgres lacks the extension pgvector; install it on the server "
            "(https://github.com/pgvector/pgvector) and run `recsys migrate` again"
        )
    if code == errorcodes.INSUFFICIENT_PRIVILEGE and "extension" in reason:
        return (
            "this user may not create the extension pgvector; let an administrator run CREATE EXTENSION "
            "vector in the warehouse's database, then run `recsys migrate` again"
        )
    if code == errorcodes.INSUFFICIENT_PRIVILEGE:
        return (
            f"this user may not migrate the warehouse: {reason.splitlines()[0]}; run `recsys migrate` as the "
            "owner of the database and its tables"
        )
    return None


def revisions() -> list[str]:
    """Return the names of all revisions, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def _config() -> Config:
    config = Config()
    # ConfigParser treats % as the start of an interpolation.
    config.set_main_option("script_location", str(sql_path("migrations")).replace("%", "%%"))
    return config
