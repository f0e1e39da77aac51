"""The feedback warehouse in Postgres: tables, ingest, windows, extraction, erasure."""
