"""Validation of a window of feedback: row rules, table expectations and quarantine."""
