"""The benchmark reads a folder as production does, and says what production would say."""

import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import own_catalogue
from benchmarks.ablations import main as measure_parts
from benchmarks.own_catalogue import OwnCatalogue, read_own_catalogue
from benchmarks.quality import main
from recsys.errors import ConfigurationError, IngestError, RecsysError
from recsys.local.postgres import PostgresServer
from recsys.snapshot.targets import find_targets

HEADER = "user_id,item_id,event_type,value,comment,occurred_at\n"
EVENTS = [f"u{n % 5},i{n % 4},rating,{1 + n % 5},,{1_700_000_000 + 60 * n}" for n in range(20)]
ITEMS = "item_id,title,genre,price\n" + "".join(f"i{n},Item {n},a|b,{n}.5\n" for n in range(4))
Read = Callable[..., OwnCatalogue]


@pytest.fixture
def ready_warehouse(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresServer,
    warehouse_template: str,
) -> None:
    """Give each reading a copy of the tests' warehouse, because a new Postgres takes seconds."""
    names = (f"own_{abs(hash(request.node.nodeid))}_{number}" for number in itertools.count())

    @contextmanager
    def copied(root: Path) -> Iterator[tuple[PostgresServer, str, Path]]:
        name = next(names)
        postgres.create_database(name, template=warehouse_template)
        yield postgres, postgres.url(name), root

    monkeypatch.setattr(own_catalogue, "kept_warehouse", copied)


@pytest.fixture
def read(tmp_path: Path, ready_warehouse: None) -> Read:
    def read(*more: str, items: str = ITEMS, event_types: str = "", **options: Any) -> OwnCatalogue:
        (tmp_path / "items.csv").write_text(items)
        (tmp_path / "feedback.csv").write_text(HEADER + "\n".join([*EVENTS, *more]) + "\n")
        if event_types:
            (tmp_path / "event_types.csv").write_text(event_types)
        return read_own_catalogue(tmp_path, **options)

    return read


def said(own: OwnCatalogue) -> str:
    return "\n".join(own.notes)


def test_a_folder_is_read_with_other_columns_as_attributes(read: Read) -> None:
    own = read()
    assert (own.sequences.users, own.sequences.events, len(own.catalogue)) == (5, 20, 4)
    assert own.catalogue.attributes[1] == {"genre": ["a", "b"], "price": 1.5}
    assert own.has_times


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('u1,i2,rating,"4,5",,1700009999', "write a point instead of the decimal comma"),
        ("u1,zzz,rating,4,,1700009999", "unknown_item: 1, such as user_id u1, item_id zzz"),
        ("u1,i2,rating,9,,1700009999", "value_out_of_range: 1"),
        ("u1,i2,rating,4,,2023-11-15 10:00:00", "has no time zone"),
    ],
)
def test_a_line_that_production_would_not_learn_from_is_left_out_and_named(
    read: Read, line: str, reason: str
) -> None:
    own = read(line)
    assert own.sequences.events == 20
    assert reason in said(own)


@pytest.mark.usefixtures("ready_warehouse")
def test_people_may_be_sessions(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    lines = [f"s{n % 5},i{n % 4},view,{1_700_000_000 + 60 * n}" for n in range(20)]
    (tmp_path / "feedback.csv").write_text(
        "\n".join(["visitor_id,item_id,event_type,occurred_at", *lines, "None,i1,view,1700009999"]) + "\n"
    )
    own = read_own_catalogue(tmp_path)
    assert (own.sequences.users, own.sequences.events) == (5, 20)
    assert "unknown_user: 1" in said(own)


@pytest.mark.usefixtures("ready_warehouse")
def test_shown_lists_name_people_as_feedback_does(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    lines = [
        *(f"s{n % 5},,i{n % 4},view,{1_700_000_000 + 60 * n}" for n in range(10)),
        *(f",u{n % 5},i{n % 4},view,{1_700_000_000 + 60 * n}" for n in range(10)),
    ]
    (tmp_path / "feedback.csv").write_text(
        "\n".join(["session_id,user_id,item_id,event_type,occurred_at", *lines]) + "\n"
    )
    shown = ["p1,s1,,i0,0,1", "p1,s1,,i1,1,0", "p2,,u1,i2,0,0", "p2,,u1,i3,1,1", "p3,zzz,,i3,0,1"]
    path = tmp_path / "impressions.csv"
    path.write_text("\n".join(["impression_id,session_id,user_id,item_id,position,clicked", *shown]) + "\n")
    own = read_own_catalogue(tmp_path)
    assert own.shown is not None
    assert [own.shown.of(number)[1].tolist() for number in range(2)] == [[0], [3]]
    assert len(set(own.shown.users.tolist())) == 2
    assert "left out              1  of unknown people or items" in said(own)
    path.write_text("impression_id,item_id,position,clicked\np1,i0,0,1\n")
    with pytest.raises(IngestError, match="has no column 'user_id' or 'session_id'"):
        read_own_catalogue(tmp_path)


def test_times_in_another_unit_end_with_the_way_to_read_them(read: Read, tmp_path: Path) -> None:
    read()
    lines = [line + "000" for line in EVENTS]
    (tmp_path / "feedback.csv").write_text(HEADER + "\n".join(lines) + "\n")
    with pytest.raises(ConfigurationError, match="--time-unit milliseconds"):
        read_own_catalogue(tmp_path)
    assert read_own_catalogue(tmp_path, time_unit="milliseconds").sequences.events == 20


def test_the_times_of_items_count_unless_the_feedback_has_no_times(read: Read, tmp_path: Path) -> None:
    items = "item_id,title,available_from,available_until\n" + "".join(
        f"i{n},Item {n},{1_700_000_000 + 300 * n},\n" for n in range(4)
    )
    own = read(items=items)
    assert find_targets(own.sequences).chosen.any()
    late = own.sequences.occurred_at < own.catalogue.available_from[own.sequences.item_index]
    assert late.any()
    assert not find_targets(own.sequences).chosen[late].any()
    (tmp_path / "feedback.csv").write_text(
        HEADER + "".join(f"u{n % 5},i{n % 4},rating,5,,\n" for n in range(20))
    )
    assert len(read_own_catalogue(tmp_path).catalogue.timed) == 0


def test_the_last_line_of_an_item_counts(read: Read) -> None:
    own = read(items=ITEMS + "i3,Item 3 again,,\n")
    assert (len(own.catalogue), own.catalogue.titles[3]) == (4, "Item 3 again")


def test_types_that_nothing_defines_count_fully_and_are_named(read: Read) -> None:
    own = read("u1,i2,bookmark,,,1700009999")
    assert own.event_types.weight[own.event_types.index["bookmark"]] == 1
    assert "taken for wanted events of weight 1: bookmark" in said(own)


def test_a_file_of_event_types_says_what_they_mean(read: Read) -> None:
    own = read(
        "u1,i2,return,,,1700009999",
        event_types="event_type,weight,polarity,min_value,max_value\nreturn,0,-1,,\nrating,1,0,1,10\n",
    )
    types = own.event_types
    assert types.weight[types.index["return"]] == 0
    assert types.polarity[types.index["return"]] == -1
    assert types.max_value[types.index["rating"]] == 10
    assert "definition" not in said(own)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("event_type,weight\nlike,much\n", "line 2: weight 'much' is not a number"),
        ("event_type,polarity\nlike,7\n", "event type 'like': .*event_types_polarity_check"),
        ("event_type,weihgt\nlike,1\n", "has no column 'weihgt'; it has event_type, "),
        ("name,weight\nlike,1\n", "no column 'event_type'"),
    ],
)
def test_a_wrong_definition_of_an_event_type_is_an_error(read: Read, content: str, message: str) -> None:
    with pytest.raises(RecsysError, match=message):
        read(event_types=content)


@pytest.mark.usefixtures("ready_warehouse")
def test_feedback_without_any_time_is_read_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    lines = ["u1,i2,click,,,", "u2,i0,click,,,", "u1,i0,click,,,", "u1,i1,click,,,"]
    (tmp_path / "feedback.csv.gz").write_bytes(gzip.compress((HEADER + "\n".join(lines) + "\n").encode()))
    own = read_own_catalogue(tmp_path)
    assert not own.has_times
    longest = int(own.sequences.lengths.argmax())
    begin, end = own.sequences.offsets[longest : longest + 2]
    assert own.sequences.item_index[begin:end].tolist() == [2, 0, 1]


def test_a_folder_without_feedback_or_with_two_files_of_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    with pytest.raises(ConfigurationError, match=r"has no feedback\.csv"):
        read_own_catalogue(tmp_path)
    for name in ("feedback.csv", "feedback.tsv"):
        (tmp_path / name).write_text(HEADER)
    with pytest.raises(ConfigurationError, match=r"feedback\.csv and feedback\.tsv"):
        read_own_catalogue(tmp_path)


@pytest.mark.usefixtures("ready_warehouse")
def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "feedback.csv").write_text("user_id,item_id,occurred_at\nu1,i1,1\n")
    with pytest.raises(IngestError, match="no column 'event_type'"):
        read_own_catalogue(tmp_path)


def test_settings_come_from_the_environment(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_VALIDATION__MAX_EVENTS_PER_MINUTE", "1")
    own = read(*(f"u1,i{n},view,,,{1_700_100_000 + n}" for n in range(3)))
    assert "impossible_rate: 3" in said(own)


def test_figures_are_written_by_event_type_and_for_repeats(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    lines = [
        f"u{user},i{n % 2},purchase,,,{1_700_000_000 + 86_400 * n + user}"
        for user in range(6)
        for n in range(5)
    ]
    (tmp_path / "feedback.csv").write_text(HEADER + "\n".join(lines) + "\n")
    options = ["--split", "next-basket", "--models", "p_pop,popularity", "--json", str(tmp_path / "f.json")]
    main(["--data", str(tmp_path), *options])
    figures = json.loads((tmp_path / "f.json").read_text())
    best = figures["models"]["p_pop"]
    assert best["targets"].keys() == {"purchase"}
    assert best["slices"]["repeat"]["cases"] == 6
    assert best["recall_at_10"] == 1
    assert "items may be recommended again, and are wanted again" in figures["notes"]


def test_an_error_of_the_data_ends_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .* has no items\.csv"):
        main(["--data", str(tmp_path), "--models", "popularity"])


@pytest.mark.usefixtures("ready_warehouse")
def test_parts_are_measured_on_own_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_MODEL__FINE_TUNING", "frozen")
    monkeypatch.setenv("RECSYS_TRAINING__EPOCHS", "1")
    (tmp_path / "items.csv").write_text(ITEMS)
    lines = [f"u{n % 5},i{n * n % 4},listen,1,,{1_700_000_000 + 9_000 * n}" for n in range(60)]
    (tmp_path / "feedback.csv").write_text(HEADER + "\n".join(lines) + "\n")
    figures = tmp_path / "figures.json"
    task = ["--data", str(tmp_path), "--recipe", "music", "--split", "next-basket"]
    measure_parts([*task, "--variants", "as it is,id only", "--json", str(figures)])
    rows = json.loads(figures.read_text())
    assert {"as it is", "id only", "without repeats in the fusion"} <= set(rows)
    assert len(rows["id only"]["minus_as_it_is"]) == 3
