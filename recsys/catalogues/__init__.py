"""Adapters that convert public data sets to items and feedback."""
