from recsys.promotion.decision import Check, Decision
from recsys.promotion.report import write_gate_report

MEASURED = Check("better_than_champion", "pass", 0.02, 0.01, 0.03, 0.0, "The candidate is better.", 0.012)
COUNTED = Check("enough_users", "pass", 400, None, None, 30, "400 users have held-out feedback.")


def test_a_report_states_the_decision_and_the_figures_of_each_check(tmp_path):
    explanation = "promoted: better than the champion (NDCG@10 +0.0200)."
    decision = Decision("promote", "better_than_champion", explanation, (COUNTED, MEASURED), "7")
    text = write_gate_report(tmp_path, decision).read_text()
    assert "**promoted**: better than the champion (NDCG@10 +0.0200).\n" in text
    assert "Reason: `better_than_champion`. Compared with version 7.\n" in text
    assert "| better_than_champion | pass | 0.02 | +0.0100 to +0.0300 | 0 | 0.012 |" in text
    assert "- `enough_users`: 400 users have held-out feedback." in text
    assert (tmp_path / "gate.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "gate.html").read_text()
    assert "<strong>promoted</strong>: better than the champion" in page
    assert 'src="data:image/png;base64,' in page


def test_a_report_without_a_comparison_has_no_plot(tmp_path):
    check = Check("comparison_possible", "fail", None, None, None, None, "nothing to compare.")
    decision = Decision("hold", "comparison_impossible", f"held: {check.explanation}", (check,))
    text = write_gate_report(tmp_path, decision).read_text()
    assert "**held**: nothing to compare.\n" in text
    assert "There was no champion to compare with. The champion stays." in text
    assert not (tmp_path / "gate.png").exists()
