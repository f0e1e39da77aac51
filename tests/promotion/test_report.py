from recsys.promotion.decision import Check, Decision
from recsys.promotion.report import write_gate_report

MEASURED = Check("better_than_champion", "pass", 0.02, 0.01, 0.03, 0.0, "The candidate is better.", 0.012)
COUNTED = Check("enough_users", "pass", 400, None, None, 30, "400 users have held-out feedback.")


def test_a_report_says_what_was_decided_and_what_each_check_saw(tmp_path):
    decision = Decision("promote", "better_than_champion", "It is better.", (COUNTED, MEASURED), "7")
    text = write_gate_report(tmp_path, decision).read_text()
    assert "**promote** (better_than_champion)" in text
    assert "Compared with version 7." in text
    assert "| better_than_champion | pass | 0.02 | +0.0100 to +0.0300 | 0 | 0.012 |" in text
    assert "- `enough_users`: 400 users have held-out feedback." in text
    assert (tmp_path / "gate.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "gate.html").read_text()
    assert "<strong>promote</strong> (better_than_champion)" in page
    assert 'src="data:image/png;base64,' in page


def test_a_report_of_a_comparison_that_was_impossible_has_no_plot(tmp_path):
    check = Check("comparison_possible", "fail", None, None, None, None, "Nothing was held out.")
    decision = Decision("hold", "comparison_impossible", check.explanation, (check,))
    text = write_gate_report(tmp_path, decision).read_text()
    assert "hold: the champion stays" in text
    assert "There was no champion" in text
    assert not (tmp_path / "gate.png").exists()
