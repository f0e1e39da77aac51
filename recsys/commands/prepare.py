"""Preparation steps at each start of the embedded stack: `python -m recsys.commands.prepare STEP`."""

import os
import subprocess
import sys
from importlib.metadata import version

import psycopg2
from psycopg2 import sql

from recsys.settings import load_settings

MODEL_WRITER_POOL = "model_writer"
_READ_COMMENT = """
    select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()
"""


def migrate_warehouse() -> None:
    """Migrate the warehouse, its analytics views and reading functions to the newest version."""
    from recsys.serving.install import install_serving
    from recsys.warehouse.analytics import install_analytics
    from recsys.warehouse.engine import connect
    from recsys.warehouse.migrate import upgrade_warehouse
    from recsys.warehouse.server_log import warn_of_values_in_log

    url = load_settings().require_warehouse_url()
    upgrade_warehouse(url)
    engine = connect(url)
    install_analytics(engine)
    install_serving(engine)
    warn_of_values_in_log(url)


def migrate_airflow_database() -> None:
    """Run `airflow db migrate`, which takes many seconds, unless this version has migrated this database."""
    url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+psycopg2", "postgresql", 1)
    comment = f"migrated by apache-airflow {version('apache-airflow')}"
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(_READ_COMMENT)
            found = cursor.fetchone()
            if found is not None and found[0] == comment:
                return
            subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
            name = sql.Identifier(connection.info.dbname)
            cursor.execute(sql.SQL("comment on database {} is {}").format(name, sql.Literal(comment)))
    finally:
        connection.close()


def create_pools() -> None:
    """Create the pool that allows one task at a time to write models."""
    from recsys.local.airflow_client import AirflowClient

    with AirflowClient.for_home(load_settings().home) as airflow:
        airflow.ensure_pool(MODEL_WRITER_POOL, slots=1, description="One writer of models at a time")


_STEPS = {
    "warehouse": migrate_warehouse,
    "airflow-database": migrate_airflow_database,
    "pools": create_pools,
}

if __name__ == "__main__":
    _STEPS[sys.argv[1]]()
