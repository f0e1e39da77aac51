"""Measures the bars that the project promises: `python -m benchmarks.NAME --json FILE`."""
