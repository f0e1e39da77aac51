"""Batch scoring and the swap of recommendations and vectors into Postgres."""
