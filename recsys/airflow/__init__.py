"""What only Airflow needs: the task wrapper, assets, links, and the task that asks a person."""
