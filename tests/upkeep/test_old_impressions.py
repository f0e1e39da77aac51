"""Retention of impressions."""

import pytest
import sqlalchemy as sa

from recsys.settings import RetentionSettings, Settings
from recsys.upkeep import impressions
from recsys.upkeep.impressions import delete_old_impressions


@pytest.fixture
def kept(settings: Settings) -> Settings:
    """Settings that keep impressions for two months."""
    return settings.model_copy(update={"retention": RetentionSettings(impressions_months=2)})


@pytest.fixture
def slates(warehouse: sa.Engine) -> sa.Engine:
    """Seven slates of the last seven months, and feedback on the oldest."""
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            """
            INSERT INTO impressions (impression_id, user_id, query, item_ids, shown_at)
            SELECT 'slate' || n, 'ada', 'a quiet film', '{1}', now() - make_interval(months => n, mins => -1)
            FROM generate_series(1, 7) AS n;
            INSERT INTO feedback (user_id, item_id, event_type, impression_id)
            VALUES ('ada', '1', 'click', 'slate7')
            """
        )
    return warehouse


def logged(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        statement = sa.text("SELECT impression_id FROM impressions ORDER BY impression_id")
        return [str(key) for key in connection.scalars(statement)]


def test_all_slates_are_kept_unless_somebody_chooses_otherwise(slates: sa.Engine, settings: Settings) -> None:
    assert delete_old_impressions(slates, settings) == 0
    assert len(logged(slates)) == 7


def test_old_slates_are_deleted_in_bounded_parts_and_feedback_on_them_stays(
    slates: sa.Engine, kept: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impressions, "_TOGETHER", 2)
    assert delete_old_impressions(slates, kept) == 5
    assert logged(slates) == ["slate1", "slate2"]
    assert delete_old_impressions(slates, kept) == 0
    with slates.connect() as connection:
        assert connection.scalar(sa.text("SELECT impression_id FROM feedback")) == "slate7"


def test_a_slate_that_somebody_holds_stays_until_the_next_day(slates: sa.Engine, kept: Settings) -> None:
    with slates.begin() as login:
        login.exec_driver_sql("UPDATE impressions SET user_id = 'eve' WHERE impression_id = 'slate6'")
        assert delete_old_impressions(slates, kept) == 4
    assert logged(slates) == ["slate1", "slate2", "slate6"]
    assert delete_old_impressions(slates, kept) == 1
