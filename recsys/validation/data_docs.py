"""Find and read the pages of a window's Data Docs, for the Airflow plugin that serves them.

Great Expectations writes pages that load scripts and styles from public servers. The plugin blocks both: no
foreign code runs in a signed-in Airflow session, and the pages look the same without a network.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

PATH = "recommender/data-docs"
"""Path of the Data Docs below Airflow's own address."""

CONTENT_SECURITY_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; form-action 'none'"
_STYLE = """
<style>
  :root { color-scheme: light dark; }
  body { font: 14px/1.5 Inter, system-ui, sans-serif; margin: 24px auto; max-width: 1100px; padding: 0 16px; }
  img, footer, .cooltip .top, [data-toggle="collapse"] { display: none !important; }
  .card:has(> .card-header) { display: none !important; }
  h4, h5 { font-size: 16px; margin: 16px 0 8px; } h6 { font-size: 14px; margin: 12px 0 4px; }
  ol, ul { list-style: none; padding: 0; } ol.breadcrumb { display: flex; gap: 12px; }
  table { border-collapse: collapse; width: 100%; } th { text-align: left; }
  th, td { padding: 6px 10px 6px 0; border-bottom: 1px solid #8884; vertical-align: top; }
  .alert { border-bottom: 2px solid #8884; } a { color: #017cee; } .badge { font-family: monospace; }
  .text-success::before { content: "\\2714"; color: #15803d; }
  .text-danger::before { content: "\\2716"; color: #b91c1c; }
  .text-warning::before { content: "\\26A0"; color: #92400e; }
</style>
"""


@dataclass(frozen=True)
class Page:
    """One page of a window's site; `path` is relative to the site."""

    path: str
    title: str
    written_at: datetime


def link_to_run(base_url: str, run_key: str) -> str:
    """Return the URL of the Data Docs of a DAG run, relative to the host if the base URL is empty."""
    return f"{base_url.rstrip('/')}/{PATH}?{urlencode({'run': run_key})}"


def list_pages(root: Path, window_id: int) -> list[Page]:
    """Return the pages of a window's site without its index: results before suites, newest first.

    Parameters
    ----------
    root
        `Settings.data_docs`.
    """
    site = _site(root, window_id)
    found = [
        Page(
            path.relative_to(site).as_posix(),
            _title(path.relative_to(site)),
            datetime.fromtimestamp(path.stat().st_mtime, UTC),
        )
        for folder in ("validations", "expectations")
        for path in (site / folder).rglob("*.html")
    ]
    newest_first = sorted(found, key=lambda page: page.written_at, reverse=True)
    return sorted(newest_first, key=lambda page: page.path.startswith("expectations/"))


def read_page(root: Path, window_id: int, path: str) -> str | None:
    """Return the HTML of a page with our style, or None if the window's site has no such page.

    Links and `..` cannot lead out of the site.
    """
    site = _site(root, window_id)
    try:
        page = (site / path).resolve()
        if page.suffix != ".html" or not page.is_relative_to(site) or not page.is_file():
            return None
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError):  # a null byte in the path, or retention has just removed the page
        return None
    return text.replace("</head>", f"{_STYLE}</head>", 1)


def _site(root: Path, window_id: int) -> Path:
    return root.resolve() / f"window-{window_id}"


def _title(path: Path) -> str:
    name = path.parts[1].removesuffix(".html").replace("-", " ")
    return f"expectations: {name}" if path.parts[0] == "expectations" else f"results: {name}"
