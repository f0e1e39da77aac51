"""The login with which each part of a deployment reaches Postgres, and its rights, on a real server."""

import pytest
import sqlalchemy as sa

from recsys.warehouse.roles import PAGE, PIPELINE, WRITER
from tests.deployment.fixtures import Deployed

OWNER = "recsys"

# Part of the deployment -> the only role that its login is a member of; None: the owner of the tables.
COMPOSE = {
    "airflow-init": None,
    "airflow-api-server": PAGE,
    "airflow-worker": PIPELINE,
    "airflow-worker-gpu": PIPELINE,
    "serving": WRITER,
}
KUBERNETES = {
    "migrate": None,
    "api-server": PAGE,
    "task-default": PIPELINE,
    "task-gpu": PIPELINE,
    "serving": WRITER,
}
_READ_LOGIN = sa.text(
    """
    SELECT rolname AS name,
        rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS powerful,
        ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = pg_roles.oid) AS member_of,
        (SELECT count(*) FROM pg_shdepend WHERE refobjid = pg_roles.oid AND deptype = 'o') AS owned
    FROM pg_roles WHERE rolname = current_user
    """
)


def _urls(deployed: Deployed, deployment: str) -> dict[str, sa.URL]:
    if deployment == "compose":
        return deployed.compose_urls("RECSYS_WAREHOUSE_URL")
    return deployed.kubernetes_urls()


def test_exactly_these_parts_know_a_login_of_the_warehouse(deployed: Deployed) -> None:
    assert set(_urls(deployed, "compose")) == set(COMPOSE)
    assert set(_urls(deployed, "kubernetes")) == set(KUBERNETES)


@pytest.mark.parametrize(
    ("deployment", "part", "role"),
    [
        (deployment, part, role)
        for deployment, roles in (("compose", COMPOSE), ("kubernetes", KUBERNETES))
        for part, role in roles.items()
    ],
)
def test_login_is_a_member_of_its_role_only_and_owns_nothing(
    deployed: Deployed, deployment: str, part: str, role: str | None
) -> None:
    engine = sa.create_engine(_urls(deployed, deployment)[part])
    try:
        with engine.connect() as connection:
            login = connection.execute(_READ_LOGIN).one()
    finally:
        engine.dispose()

    assert not login.powerful
    if role is None:
        assert login.name == OWNER
        assert login.owned > 0
    else:
        assert login.name != OWNER
        assert login.member_of == [role]
        assert login.owned == 0


@pytest.mark.parametrize(
    ("pod", "statement", "allowed"),
    [
        ("api-server", "SELECT count(*) FROM analytics.champion_history", True),
        ("api-server", "SELECT count(*) FROM users", False),
        ("api-server", "SELECT count(*) FROM feedback", False),
        ("serving", "SELECT count(*) FROM serving.trending(k => 1)", True),
        ("serving", "SELECT count(*) FROM promotion_ledger", False),
        ("task-gpu", "SELECT count(*) FROM feedback", True),
        ("task-gpu", "DELETE FROM promotion_ledger", False),
        ("task-gpu", "DROP TABLE feedback", False),
        ("task-gpu", "CREATE TABLE mine (id int)", False),
    ],
)
def test_login_may_do_what_its_part_does_and_no_more(
    deployed: Deployed, pod: str, statement: str, allowed: bool
) -> None:
    engine = sa.create_engine(deployed.kubernetes_urls()[pod])
    try:
        with engine.connect() as connection:
            if allowed:
                connection.execute(sa.text(statement))
            else:
                with pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"):
                    connection.execute(sa.text(statement))
    finally:
        engine.dispose()


@pytest.mark.parametrize("database", ["airflow", "mlflow"])
def test_logins_of_the_warehouse_reach_no_other_database(deployed: Deployed, database: str) -> None:
    for pod, url in deployed.kubernetes_urls().items():
        engine = sa.create_engine(url.set(database=database))
        with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
            engine.connect()
        engine.dispose()
        assert pod


@pytest.mark.parametrize(
    ("secret", "key", "database"),
    [("airflow-metadata", "connection", "airflow"), ("mlflow-server", "backend-store-uri", "mlflow")],
)
def test_airflow_and_mlflow_reach_their_own_database_only(
    deployed: Deployed, secret: str, key: str, database: str
) -> None:
    url = sa.make_url(deployed.secrets[secret][key])
    assert url.database == database
    engine = sa.create_engine(url)
    engine.connect().close()
    engine.dispose()
    elsewhere = sa.create_engine(url.set(database="recsys"))
    with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
        elsewhere.connect()
    elsewhere.dispose()
