"""Embedded stack for one machine: Postgres, MLflow and Airflow under one supervisor."""
