import pytest
import sqlalchemy as sa

from recsys.errors import ConfigurationError
from recsys.warehouse.erased_users import readmit, remember_erased
from recsys.warehouse.files import line_file
from tests.warehouse.ingest.loading import HEADER, TIME, Load, rejects, rows

KEYS = [b"the pseudonym key of now", b"the key that was replaced"]


def erase(warehouse: sa.Engine, user: str, key: bytes = KEYS[0]) -> None:
    with warehouse.begin() as connection:
        remember_erased(connection, user, key)


@pytest.mark.parametrize("key", KEYS, ids=["current key", "replaced key"])
@pytest.mark.parametrize("event_ids", [True, False], ids=["copied", "merged"])
def test_an_erased_user_does_not_come_back_with_the_same_file(
    warehouse: sa.Engine, load: Load, key: bytes, event_ids: bool
) -> None:
    names = ("anna", "ben", "anna")
    lines = [f"{f'e{n}' if event_ids else ''},{user},i,like,,secret,{TIME}\n" for n, user in enumerate(names)]
    erase(warehouse, "anna", key)
    summary = load(HEADER + "".join(lines), tombstone_keys=KEYS)
    assert (summary.read, summary.inserted, summary.rejected, summary.of_erased_users) == (3, 1, 2, 2)
    assert [line for line, _ in rejects(summary)] == [2, 4]
    assert all("erased on request" in reason and "readmit" in reason for _, reason in rejects(summary))
    assert summary.reject_file is not None
    assert "anna" not in summary.reject_file.read_text()
    assert "secret" not in summary.reject_file.read_text()
    assert [row.user_id for row in rows(warehouse, "SELECT user_id FROM users")] == ["ben"]
    assert [row.user_id for row in rows(warehouse)] == ["ben"]


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("users", "user_id,consent\nanna,yes\nben,yes\n"),
        ("impressions", 'impression_id,user_id,item_ids,shown_at\nm1,anna,"[""i""]",0\nm2,ben,"[""i""]",0\n'),
    ],
)
def test_no_table_takes_an_erased_user(warehouse: sa.Engine, load: Load, table: str, content: str) -> None:
    erase(warehouse, "anna")
    summary = load(content, f"{table}.csv", table, tombstone_keys=KEYS)
    assert (summary.inserted, summary.rejected) == (1, 1)
    assert [row.user_id for row in rows(warehouse, f"SELECT user_id FROM {table}")] == ["ben"]


def test_a_readmitted_user_is_loaded_again(warehouse: sa.Engine, load: Load) -> None:
    erase(warehouse, "anna", KEYS[1])
    assert readmit(warehouse, "anna", KEYS)
    assert not readmit(warehouse, "anna", KEYS)
    assert load("user_id\nanna\n", "users.csv", "users", tombstone_keys=KEYS).inserted == 1


def test_a_load_without_the_key_that_recognises_erased_users_is_refused(
    warehouse: sa.Engine, load: Load
) -> None:
    assert load("user_id\nben\n", "users.csv", "users").inserted == 1
    erase(warehouse, "anna")
    with pytest.raises(ConfigurationError, match=r"1 users were erased.*RECSYS_PREVIOUS_PSEUDONYM_KEYS"):
        load("user_id\nanna\n", "users.csv", "users", tombstone_keys=KEYS[1:])
    assert load("item_id\ni\n", "items.csv", "items").inserted == 1


def test_a_user_who_is_erased_during_a_load_is_in_none_of_its_later_chunks(
    warehouse: sa.Engine, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_file, "BLOCK_BYTES", 64)
    lines = [f"e{number},anna,i,like,,,{TIME}\n" for number in range(3)]
    loaded = []

    def progress(done: int, total: int) -> None:
        loaded.append(len(rows(warehouse)))
        if len(loaded) == 1:
            erase(warehouse, "anna")

    summary = load(HEADER + "".join(lines), tombstone_keys=KEYS, progress=progress)
    assert summary.inserted == loaded[0] < 3
    assert summary.of_erased_users == 3 - loaded[0]
