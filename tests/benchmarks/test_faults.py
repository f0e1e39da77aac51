"""The books of the fault run: right without faults, and wrong when something is missing."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.faults.run import FaultRun


@pytest.mark.slow
def test_the_books_find_a_lost_row_and_a_person_who_came_back(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with FaultRun(tmp_path, seed=1) as run:
        run.hour(0, faults=False)
        run.application.ask_for_erasure()
        figures = run.close_books(1)
        assert figures["rows_in"] == figures["rows_accounted"] > 0
        assert (figures["erased_people"], figures["erased_people_found"]) == (1, 0)
        assert (figures["half_publications"], figures["stuck_hours"]) == (0, 0)
        [erased] = run.application.erased
        kept = next(event for event, user in run.application.committed.items() if user != erased)
        engine = sa.create_engine(run.application.url)
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM feedback WHERE event_id = :event"), {"event": kept})
            connection.execute(
                sa.text(
                    "INSERT INTO quarantine"
                    " (window_id, feedback_id, reasons, user_id, transaction_id, feedback)"
                    " SELECT max(window_id), -1, '{test}', :user, 0, '{}' FROM windows"
                ),
                {"user": erased},
            )
            connection.exec_driver_sql("UPDATE user_vectors SET model_version = 'another'")
        engine.dispose()
        found = run.figures(1)
    assert found["rows_accounted"] == figures["rows_in"] - 1
    assert found["erased_people_found"] == 1
    assert found["half_publications"] > 0
