from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.errors import ServiceUnavailableError
from recsys.settings import Settings
from recsys.validation.expectations import WindowExpectations
from recsys.validation.rules import row_rules
from recsys.warehouse.windows import Window


def test_a_query_that_fails_is_an_error_that_a_retry_can_help(
    stocked: sa.Engine, next_window: Callable[..., Window], settings: Settings, tmp_path: Path
) -> None:
    window = next_window()
    with WindowExpectations(stocked, window, settings.validation, tmp_path) as expectations:
        with stocked.begin() as connection:
            connection.execute(sa.text("ALTER TABLE row_violations RENAME TO gone"))
        with pytest.raises(
            ServiceUnavailableError, match=r"(?s)could not evaluate .*row_violations.*run the task"
        ):
            expectations.validate_rows(row_rules())
