"""Batch scoring, and publishing recommendations and vectors to Postgres in one transaction."""
