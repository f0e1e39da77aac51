"""A short fuzz run with a fixed seed; and a run finds faults and replays them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fuzz.inputs import Finding, Input, keep, kept
from benchmarks.fuzz.run import KINDS, Fuzz, kind_of, make_input
from recsys.local.postgres import PostgresServer
from recsys.warehouse import item_prose, merge
from recsys.warehouse.files import csv_file

SEED = 20_261_129
INPUTS = 160


@pytest.fixture(scope="module")
def fuzz(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    with Fuzz(tmp_path_factory.mktemp("fuzz"), postgres) as fuzz:
        yield fuzz


def check(fuzz: Fuzz, numbers: range, kinds: tuple[str, ...] = KINDS) -> dict[int, list[Finding]]:
    inputs = {number: make_input(SEED, number) for number in numbers if kind_of(number) in kinds}
    return {number: found for number, given in inputs.items() if (found := fuzz.check(given))}


def test_no_input_ends_in_a_traceback_changes_its_meaning_or_is_lost(fuzz: Fuzz) -> None:
    assert check(fuzz, range(INPUTS)) == {}


def test_every_kind_of_input_is_made_in_its_share() -> None:
    counts = Counter(map(kind_of, range(800)))
    assert counts.keys() == set(KINDS)
    assert counts["csv"] == 220
    assert counts["rows"] == 10


def test_an_input_depends_only_on_the_seed_and_its_number() -> None:
    assert [make_input(1, number) for number in (7, 8)] == [make_input(1, number) for number in (7, 8)]
    assert make_input(1, 7) != make_input(2, 7)


def test_a_changed_meaning_is_found(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_prose, "characters", lambda text: text.replace("&", "and"))
    found = check(fuzz, range(INPUTS), ("jsonl", "csv"))
    assert {finding.fault for findings in found.values() for finding in findings} == {"silent_change"}


def test_a_lost_row_is_found(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    load = merge.Merger._load
    monkeypatch.setattr(merge.Merger, "_load", lambda self, rows: load(self, rows[1:]))
    found = check(fuzz, range(40), ("csv",))
    assert "lost_row" in {finding.fault for findings in found.values() for finding in findings}


def test_a_traceback_is_found(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(csv_file, "_csv_chunk", crash)
    found = check(fuzz, range(40), ("csv",))
    assert "traceback" in {finding.fault for findings in found.values() for finding in findings}


def test_a_failing_input_is_kept_for_a_replay(tmp_path: Path) -> None:
    given = Input("csv", "items.csv", b"item_id\n\xff\n", {"table": "items"})
    keep(tmp_path, 4711, given, [Finding("lost_row", "one row is missing")])
    assert kept(tmp_path) == [(4711, given)]
