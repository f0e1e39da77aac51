"""Measures the bars that the project promises: `python -m benchmarks.NAME --json FILE`."""

import recsys  # noqa: F401  # before torch, so that what is compared with ours waits in the same way
