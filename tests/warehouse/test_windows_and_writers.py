"""Opening a window blocks nobody, and no row of many writers and long transactions is lost."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from recsys.warehouse.windows import Window, open_window, reconcile_window

INSERT = sa.text(
    "INSERT INTO feedback (event_id, user_id, item_id, event_type, occurred_at)"
    " VALUES (:event_id, 'u', 'i', 'view', CAST(:occurred_at AS timestamptz))"
)
WRITERS = 8
TRANSACTIONS = 40
ROWS = 3
# Timeout of the statements that could wait for the opening of a window.
IMPATIENT = "-c lock_timeout=1000"


@pytest.fixture
def impatient(warehouse_url: str) -> Iterator[sa.Engine]:
    """An engine whose statements fail instead of waiting for a lock."""
    engine = sa.create_engine(
        warehouse_url, connect_args={"options": IMPATIENT}, pool_size=WRITERS + 4, max_overflow=0
    )
    yield engine
    engine.dispose()


def insert(connection: sa.Connection, event_id: str, occurred_at: str = "now") -> None:
    connection.execute(INSERT, {"event_id": event_id, "occurred_at": occurred_at})


def read(engine: sa.Engine, window: Window) -> list[str]:
    query = sa.text(
        "SELECT event_id FROM feedback WHERE transaction_id >= :lower AND transaction_id < :upper"
    )
    bounds = {"lower": window.lower_transaction_id, "upper": window.upper_transaction_id}
    with engine.connect() as connection:
        return list(connection.scalars(query, bounds))


@pytest.mark.parametrize(
    "moment", ["advisory_xact_lock", "LOCK TABLE", "warehouse_horizon", "INSERT INTO windows", "COMMIT"]
)
def test_no_writer_waits_for_the_opening_of_a_window(
    warehouse: sa.Engine, impatient: sa.Engine, moment: str
) -> None:
    done = []

    def write() -> None:
        with impatient.begin() as connection:
            insert(connection, "this month")
            insert(connection, "long ago", "1997-09-20")
            connection.execute(sa.text("COPY feedback (user_id, item_id, event_type) FROM '/dev/null'"))
            connection.execute(sa.text("UPDATE feedback SET comment = 'x'"))
            connection.execute(sa.text("DELETE FROM feedback WHERE event_id = 'long ago'"))
        open_window(impatient, "another consumer", "1")
        done.append(moment)

    @sa.event.listens_for(warehouse, "before_cursor_execute")
    def before_statement(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
        if moment in statement:
            write()

    @sa.event.listens_for(warehouse, "commit")
    def before_commit(connection: sa.Connection) -> None:
        if moment == "COMMIT":
            write()

    open_window(warehouse, "nightly", "1")
    assert done == [moment]


def test_opening_a_window_does_not_wait_for_writers_or_readers(impatient: sa.Engine) -> None:
    with impatient.connect() as writer, impatient.connect() as reader:
        insert(writer, "uncommitted")
        reader.execute(sa.text("SELECT * FROM feedback, windows FOR UPDATE"))
        assert read(impatient, open_window(impatient, "nightly", "1")) == []


def test_eight_writers_a_long_transaction_and_two_consumers_lose_nothing(impatient: sa.Engine) -> None:
    written: list[str] = []
    failures: list[BaseException] = []
    opened: dict[str, list[Window]] = {"nightly": [], "hourly": []}
    found: dict[str, Counter[str]] = {consumer: Counter() for consumer in opened}
    still_writing = threading.Semaphore(0)

    def guarded(work: object, *arguments: object) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)  # type: ignore[operator]
            except BaseException as error:
                failures.append(error)
            finally:
                still_writing.release()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def writer(number: int) -> None:
        for transaction in range(TRANSACTIONS):
            names = [f"{number}-{transaction}-{row}" for row in range(ROWS)]
            with impatient.connect() as connection:
                for name in names[:-1]:
                    insert(connection, name)
                savepoint = connection.begin_nested()
                insert(connection, names[-1])
                if transaction % 3 == 0:
                    savepoint.rollback()
                    names.pop()
                if transaction % 7 == 6:
                    connection.rollback()
                else:
                    connection.commit()
                    written.extend(names)

    def consume(consumer: str) -> None:
        run_key = f"run {len(opened[consumer])}"
        window = open_window(impatient, consumer, run_key)
        opened[consumer].append(window)
        found[consumer].update(read(impatient, window))

    def long_transaction(begun: threading.Event, end: threading.Event) -> None:
        with impatient.begin() as connection:
            insert(connection, "long transaction, first row")
            begun.set()
            end.wait()
            insert(connection, "long transaction, last row")
        written.extend(["long transaction, first row", "long transaction, last row"])

    begun, end = threading.Event(), threading.Event()
    threads = [guarded(writer, number) for number in range(WRITERS)]
    threads.append(guarded(long_transaction, begun, end))
    begun.wait()
    finished = 0
    while finished < WRITERS:
        for consumer in opened:
            consume(consumer)
        finished += still_writing.acquire(blocking=False)
        if len(opened["nightly"]) == 20:
            end.set()
    end.set()
    for thread in threads:
        thread.join()
    for consumer in opened:
        consume(consumer)
    assert failures == []
    for consumer, windows in opened.items():
        assert found[consumer] == Counter(written)
        assert sum(window.arrived for window in windows) == len(written)
        bounds = [(window.lower_transaction_id, window.upper_transaction_id) for window in windows]
        assert [upper for _, upper in bounds[:-1]] == [lower for lower, _ in bounds[1:]]
        assert reconcile_window(impatient, windows[-1].window_id).balanced
