"""Small line charts as SVG for the Recommender page, without scripts and inline styles."""

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape

WIDTH, HEIGHT = 560, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 4, 16, 18
COLOURS = 5
"""Lines that the page's style distinguishes; a chart has at most as many."""

Line = Sequence[tuple[date, float]]


def line_chart(title: str, lines: Mapping[str, Line], written: str = ",.0f") -> str:
    """Return an SVG element: time to the right, from 0 to the highest value upwards.

    Every point tells its day and value when the pointer is on it. The element's label says the latest values
    for those who do not see it.

    Parameters
    ----------
    lines
        Points by name, by day. The lines with the highest latest values are drawn, `COLOURS` at most.
    written
        Format of the values.
    """
    known = {name: line for name, line in lines.items() if line}
    names = sorted(known, key=lambda name: (-known[name][-1][1], name))[:COLOURS]
    if not names:
        return ""
    days = [day for name in names for day, _ in known[name]]
    first, last = min(days), max(days)
    highest = max(value for name in names for _, value in known[name]) or 1.0
    span = max((last - first).days, 1)

    def place(day: date, value: float) -> tuple[float, float]:
        across = (day - first).days / span if last > first else 1.0
        return (
            round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1),
            round(_TOP + (1 - max(value, 0.0) / highest) * (HEIGHT - _TOP - _BOTTOM), 1),
        )

    floor = HEIGHT - _BOTTOM
    latest = ", ".join(f"{name} {known[name][-1][1]:{written}}" for name in names)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(f"{title}: {latest}")}">',
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{WIDTH - _RIGHT}" y2="{floor}"/>',
        f'<text x="{_LEFT}" y="{_TOP - 5}">{highest:{written}}</text>',
        f'<text x="{_LEFT}" y="{HEIGHT - 4}">{first:%d %b}</text>',
        f'<text class="end" x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}">{last:%d %b}</text>',
    ]
    for number, name in enumerate(names):
        points = [(*place(day, value), day, value) for day, value in known[name]]
        path = " ".join(f"{x},{y}" for x, y, *_ in points)
        parts.append(f'<polyline class="line-{number}" points="{path}"/>')
        parts += [
            f'<circle class="line-{number}" cx="{x}" cy="{y}" r="2.5">'
            f"<title>{escape(name)}, {day:%d %b}: {value:{written}}</title></circle>"
            for x, y, day, value in points
        ]
    parts.append("</svg>")
    legend = "".join(
        f'<li class="line-{number}">{escape(name)} {known[name][-1][1]:{written}}</li>'
        for number, name in enumerate(names)
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{''.join(parts)}"
        f'<ul class="legend">{legend}</ul></figure>'
    )
