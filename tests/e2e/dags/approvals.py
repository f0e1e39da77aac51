"""The end of the training DAGs, with a gate that asks about the version it is given. No model is trained.

The champion asset is left out: a version without files cannot be published.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from recsys.airflow.approval_operator import AFTER_APPROVAL, ApprovePromotion
from recsys.airflow.defaults import DEFAULT_ARGS, START_DATE
from recsys.airflow.tasks import stage
from recsys.pipeline.deciding import promote


def make(dag_id: str, within: timedelta) -> None:
    @dag(
        dag_id=dag_id,
        schedule=None,
        start_date=START_DATE,
        default_args=DEFAULT_ARGS,
        params={"version": Param("1"), "opponent": Param(None, type=["null", "string"]), "action": "ask"},
    )
    def approvals() -> None:
        @task
        def gate(params: dict[str, str | None] | None = None) -> dict[str, object]:
            assert params is not None
            check = {
                "name": "enough_users", "verdict": "pass", "observed": 50.0, "low": None, "high": None,
                "threshold": 30.0, "explanation": "50 users.",
            }  # fmt: skip
            decision = {
                "action": params["action"], "reason": "better_than_champion", "explanation": "It is better.",
                "checks": [check], "expected_champion": params["opponent"],
            }  # fmt: skip
            return {"version": params["version"], "decision": decision, "links": {}}

        decided = gate()
        answer = ApprovePromotion(task_id="approve", decided=decided, within=within).output
        stage(promote, trigger_rule=AFTER_APPROVAL)(decided, answer)

    approvals()


make("approval_in_time", timedelta(hours=1))
make("approval_too_late", timedelta(seconds=1))
