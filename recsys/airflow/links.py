"""Links from tasks to pages."""

from typing import Any

from airflow.sdk import BaseOperatorLink, conf

from recsys.validation.data_docs import link_to_run


def airflow_url() -> str | None:
    """Return the address of the Airflow UI, None when none is configured."""
    return conf.get("api", "base_url", fallback="").rstrip("/") or None


class DataDocsLink(BaseOperatorLink):  # type: ignore[misc]
    """Button on a task that opens the Data Docs of its run, also when the task has failed."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 (Airflow passes it by name)
        """Return the address; Airflow stores it when the task ends, in whatever state."""
        return link_to_run(airflow_url() or "", f"{ti_key.dag_id}/{ti_key.run_id}")
