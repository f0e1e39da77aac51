"""Immutable Parquet snapshots of validated, pseudonymised feedback, and sequences read from them."""
