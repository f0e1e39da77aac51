"""Offline evaluation: ranking metrics, baselines, slices, paired bootstrap, reports."""
