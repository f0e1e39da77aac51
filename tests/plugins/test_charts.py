"""Line charts of the page: where points lie, and what cannot be drawn."""

from datetime import date, timedelta
from xml.etree import ElementTree

import pytest

from recsys.airflow.charts import COLOURS, HEIGHT, WIDTH, line_chart

DAY = date(2026, 5, 1)


def points(chart: str) -> list[list[tuple[float, float]]]:
    """Return the points of each line."""
    svg = ElementTree.fromstring(chart).find("svg")
    assert svg is not None
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in line.attrib["points"].split())]
        for line in svg.iter("polyline")
    ]


def test_time_runs_to_the_right_and_values_upwards() -> None:
    line = [(DAY, 0.0), (DAY + timedelta(days=1), 50.0), (DAY + timedelta(days=4), 100.0)]
    ((first, second, last),) = points(line_chart("Events", {"view": line}))
    assert first[0] < second[0] < last[0] <= WIDTH
    assert (last[0] - second[0]) == pytest.approx(3 * (second[0] - first[0]), abs=0.2)
    assert HEIGHT > first[1] > second[1] > last[1] > 0
    assert second[1] == pytest.approx((first[1] + last[1]) / 2, abs=0.1)


def test_the_lines_with_the_highest_latest_values_are_drawn() -> None:
    lines = {f"type {number}": [(DAY, float(number))] for number in range(COLOURS + 3)}
    chart = line_chart("Events", lines | {"none": []})
    assert len(points(chart)) == COLOURS
    assert "type 7 7" in chart
    assert "type 2" not in chart


@pytest.mark.parametrize("lines", [{}, {"view": []}])
def test_nothing_is_drawn_of_nothing(lines: dict[str, list[tuple[date, float]]]) -> None:
    assert line_chart("Events", lines) == ""


def test_one_day_and_values_of_zero_are_drawn() -> None:
    (((x, y),),) = points(line_chart("Events", {"view": [(DAY, 0.0)]}))
    assert 0 < x <= WIDTH
    assert 0 < y < HEIGHT
