"""Install the schema `serving`: the functions that applications call, and the role that may call them.

Each file in `sql/serving/functions` creates one type or function and can run again. They are replaced in
place, in one transaction, so that readers always have one or the other and keep their rights.
"""

import sqlalchemy as sa

from recsys.warehouse.advisory_locks import lock
from recsys.warehouse.roles import create_role
from recsys.warehouse.statements import read_statement, sql_path

SCHEMA = "serving"
READER = "recsys_reader"
"""Role of applications that show lists: call the reading functions and nothing else."""
_UNCHANGED = {"no_parameters": True}
_FUNCTIONS_OF_EARLIER_RELEASES = """
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = 'serving'::regnamespace AND xmin <> pg_current_xact_id()::xid
"""


def install_serving(engine: sa.Engine) -> None:
    """Create or replace the reading functions, and grant them to readers and writers.

    Raises
    ------
    sqlalchemy.exc.ProgrammingError
        The user may not create functions, or the warehouse has older tables.
    """
    # Types come first; functions may name each other in any order.
    scripts = sorted(
        (file.read_text(encoding="utf-8") for file in sql_path(SCHEMA, "functions").glob("*.sql")),
        key=lambda script: "create type" not in script,
    )
    with engine.begin() as connection:
        lock(connection, "install_serving")
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.exec_driver_sql(
            f"COMMENT ON SCHEMA {SCHEMA} IS 'functions that applications call to show lists'"
        )
        connection.exec_driver_sql("SET LOCAL check_function_bodies = off")
        for script in scripts:
            connection.exec_driver_sql(script, execution_options=_UNCHANGED)
        for function in connection.scalars(sa.text(_FUNCTIONS_OF_EARLIER_RELEASES)).all():
            connection.exec_driver_sql(f"DROP FUNCTION {function}")
        create_role(connection, READER)
        connection.exec_driver_sql(read_statement("serving/grant_reading"), execution_options=_UNCHANGED)
