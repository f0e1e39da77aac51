import pyarrow as pa
import pytest

from recsys.snapshot.scrub import scrub_comments


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("mail me: jane.doe+x@example.co.uk!", "mail me: [e-mail]!"),
        ("müller@straße.de schreibt", "[e-mail] schreibt"),
        ("see https://example.com/a?b=c now", "see [link] now"),
        ("www.example.com is better", "[link] is better"),
        ("find it on example.com", "find it on [link]"),
        ("call +49 (171) 123-45.67 tonight", "call [number] tonight"),
        ("call (555) 123-4567", "call [number]"),
        ("call 0800 123456, or +1 555 0100", "call [number], or [number]"),
        ("0171/1234567", "[number]"),
        ("13812345678、很好", "[number]、很好"),
    ],
)
def test_personal_data_is_replaced(comment: str, expected: str) -> None:
    assert scrub_comments(pa.array([comment])).to_pylist() == [expected]


@pytest.mark.parametrize(
    "comment",
    [
        "Great film of 1995, 10/10!",
        "read it in 2020-2021, on 2026-09-01",
        "5 * 7 @ home",
        "三体 is 👍",
        "",
        None,
    ],
)
def test_other_comments_are_unchanged(comment: str | None) -> None:
    assert scrub_comments(pa.array([comment, "x"])).to_pylist() == [comment, "x"]


def test_a_huge_comment_is_fast() -> None:
    hostile = "1-" * 50_000 + "a@" * 50_000
    assert len(scrub_comments(pa.array([hostile]))) == 1
