"""Adapters that turn public data sets and a user's own files into items and feedback."""
