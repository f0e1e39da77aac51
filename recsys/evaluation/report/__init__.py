"""Reports of an evaluation as Markdown, plots and a page."""
