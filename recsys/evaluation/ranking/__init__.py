"""Ranking held-out feedback: cases, metrics, slices, baselines."""
