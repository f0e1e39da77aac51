import html
import json
from dataclasses import replace

import numpy as np
import pytest

from recsys.evaluation.comparison import Comparison
from recsys.evaluation.labels import label
from recsys.evaluation.ranking.baselines import POPULARITY
from recsys.evaluation.ranking.cases import guard_cases, held_out_cases
from recsys.evaluation.ranking.evaluate import evaluate
from recsys.evaluation.report.document import write_report
from recsys.evaluation.report.page import write_page
from recsys.evaluation.report.plots import curves_plot, metrics_plot
from recsys.evaluation.result import CANDIDATE, CHAMPION


@pytest.fixture
def evaluations(make_sequences, catalogue, minute, fixed_scores, evaluation_settings):
    rows = [
        ("ann", "a", 10, "like", "fresh"),
        ("bob", "b", 11, "like", "fresh"),
        ("eve", "c", 1, "like", "guard"),
    ]
    sequences = make_sequences(rows, catalogue)
    scorers = {
        CANDIDATE: fixed_scores([5, 4, 3, 2, 1, 0]),
        CHAMPION: fixed_scores([np.nan] * 6),
        POPULARITY: fixed_scores([0, 1, 2, 3, 4, 5]),
    }
    held_out = held_out_cases(sequences, catalogue, minute(5), evaluation_settings)
    guard = guard_cases(sequences, catalogue, evaluation_settings)
    return evaluate(scorers, held_out, evaluation_settings), evaluate(scorers, guard, evaluation_settings)


def test_an_interval_that_rounding_puts_past_its_mean_is_drawn(evaluations):
    held_out, _ = evaluations
    rounded = [
        replace(figure, low=figure.value + 1e-17, high=figure.value - 1e-17) for figure in held_out.figures
    ]
    assert any(figure.low > figure.value for figure in rounded)
    assert metrics_plot(replace(held_out, figures=tuple(rounded))).axes


def test_a_report_shows_every_scorer_with_differences_plots_and_failures(
    evaluations, evaluation_settings, tmp_path
):
    history = tmp_path / "history.jsonl"
    rows = [{"epoch": n, "next_item": 3.0 - n, "validation_ndcg": n / 10, "seconds": 1.0} for n in (1, 2)]
    history.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"epo')
    held_out, guard = evaluations
    text = write_report(
        tmp_path / "report", Comparison(held_out, guard), evaluation_settings, history
    ).read_text()
    assert "2 held-out events of 2 users" in text
    assert "| candidate | 0.8155" in text
    assert "| popularity | NDCG@2 | +0.8155" in text
    assert "champion was not evaluated: scores contain NaN or infinity" in text
    assert "## Old behaviour" in text
    assert "nan" not in text
    for plot in ("metrics.png", "training_curves.png"):
        assert plot in text
        assert (tmp_path / "report" / plot).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<td>candidate</td>" in page
    assert page.count('src="data:image/png;base64,') == 2


def test_times_of_a_training_are_not_plotted_as_curves():
    rows = [{"epoch": 1, "next_item": 2.0, "training_seconds": 40.0, "seconds": 50.0, "validation_ndcg": 0.1}]
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in curves_plot(rows).axes]
    assert legends == [["next item"], ["validation ndcg"]]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("ndcg_at_10", "NDCG@10"),
        ("recall_at_10", "Recall@10"),
        ("mrr", "MRR"),
        ("novelty_at_10", "novelty@10"),
        ("collaborative_filtering", "collaborative filtering"),
        ("item.genres:Sci-Fi", "item.genres: Sci-Fi"),
    ],
)
def test_labels_are_written_as_a_person_would_write_them(name, written):
    assert label(name) == written


def test_html_in_a_report_is_escaped(tmp_path):
    (tmp_path / "report.md").write_text("# A <b>title\n\n| a |\n| --- |\n| <script>alert(1)</script> |\n")
    page = write_page(tmp_path / "report.md").read_text()
    assert "<title>A &lt;b&gt;title</title>" in page
    assert "<script>" not in page


ODD_VALUES = ["![x](a.png)", "H&M", "a|b", "<b>", "two\nlines", "`code`", "*", "[a](b)"]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_slice_of_any_value_is_shown_as_it_is(evaluations, evaluation_settings, tmp_path, value):
    held_out = evaluations[0]
    result = held_out.slices[held_out.main_slice]
    odd = replace(held_out, slices=held_out.slices | {f"item.brand:{value}": result})
    write_report(tmp_path, Comparison(odd, None), evaluation_settings)
    page = (tmp_path / "report.html").read_text()
    assert f"<td>item.brand: {html.escape(' '.join(value.split()), quote=False)}</td>" in page
    assert page.count("<img") == 1


def test_an_image_that_does_not_exist_does_not_end_the_report(tmp_path):
    (tmp_path / "report.md").write_text("# A\n\n![x](a.png)\n")
    assert 'src="a.png"' in write_page(tmp_path / "report.md").read_text()


def test_a_report_without_training_history_or_guard_is_shorter(evaluations, evaluation_settings, tmp_path):
    path = write_report(tmp_path, Comparison(evaluations[0], None), evaluation_settings)
    assert "## Training" not in path.read_text()
    assert not (tmp_path / "training_curves.png").exists()
