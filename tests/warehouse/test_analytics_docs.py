"""The queries in docs/analytics.md run as an analyst, and the page shows every view."""

import re
from pathlib import Path

import sqlalchemy as sa

from recsys.warehouse.analytics import install_analytics
from recsys.warehouse.roles import ANALYST
from recsys.warehouse.statements import sql_path

PAGE = Path(__file__).parents[2] / "docs" / "analytics.md"


def test_every_query_of_the_page_runs_as_an_analyst(warehouse: sa.Engine) -> None:
    install_analytics(warehouse)
    queries = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(queries) > 15
    for query in queries:
        with warehouse.connect().execution_options(no_parameters=True) as connection:
            connection.exec_driver_sql(f"SET ROLE {ANALYST}")
            connection.exec_driver_sql(query)


def test_every_view_is_shown_with_a_query() -> None:
    queries = " ".join(re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    names = {file.stem for file in sql_path("analytics").glob("*.sql")}
    assert {name for name in names if f"analytics.{name}" not in queries} == set()
