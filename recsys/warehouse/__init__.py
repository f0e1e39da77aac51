"""The feedback warehouse in Postgres: tables, migrations, ingest, windows, analytics views and roles."""
