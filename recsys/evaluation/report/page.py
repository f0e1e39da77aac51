"""Convert a Markdown report to one HTML page: MLflow shows Markdown without plots and cuts wide tables."""

import base64
import html
import re
from pathlib import Path

_IMAGE = re.compile(r'src="([\w-]+\.png)"')
_STYLE = """
  :root { color-scheme: light dark; --line: light-dark(#e4e4e7, #3f3f46); }
  body { font: 14px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 24px auto; padding: 0 16px; }
  h1 { font-size: 22px; } h2 { font-size: 17px; margin-top: 28px; }
  table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
  th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: left; }
  td { white-space: nowrap; }
  img { max-width: 100%; background: white; }
"""


def write_page(report: Path) -> Path:
    """Write the report as HTML with its plots embedded, and return the page's path.

    Parameters
    ----------
    report
        Markdown file; its images are PNG files in the same folder.
    """
    from markdown_it import MarkdownIt

    text = report.read_text()
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    title = text.partition("\n")[0].removeprefix("# ")
    page = report.with_suffix(".html")
    page.write_text(
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<body>\n{_IMAGE.sub(lambda found: _inline(report, found[1]), body)}"
        "</body>\n</html>\n"
    )
    return page


def _inline(report: Path, name: str) -> str:
    if not report.with_name(name).is_file():
        return f'src="{name}"'
    content = base64.b64encode(report.with_name(name).read_bytes()).decode()
    return f'src="data:image/png;base64,{content}"'
