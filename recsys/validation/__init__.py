"""Expectations on a window of feedback, and the quarantine for rows that break a rule."""
