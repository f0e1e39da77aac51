"""The DAG task that waits for a person.

Beside `recsys.airflow.tasks` the only module of the package that imports Airflow.
"""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from recsys import pipeline as stages
from recsys.airflow.tasks import current_run
from recsys.alerts import send_alert
from recsys.errors import NothingToDoError
from recsys.settings import load_settings

AFTER_APPROVAL = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
"""Of the task after it: runs whether or not a person was asked, and is skipped with the gate."""


class ApprovePromotion(ApprovalOperator):  # type: ignore[misc]
    """Asks a person when the gate wants it, and is skipped when it does not.

    Returns `{"answer", "by", "at"}`. A rejection skips nothing downstream, because the task that carries
    out decisions records it; no answer in time is an answer too.

    Parameters
    ----------
    decided
        What the task `gate` returned.
    within
        Longest wait for the answer; a shorter one in the settings counts.
    """

    template_fields = (*ApprovalOperator.template_fields, "decided")

    def __init__(self, *, decided: Any, within: timedelta, **options: Any) -> None:
        approval = load_settings().approval
        super().__init__(
            subject="Make the challenger champion?",
            # Without a default the task would fail when nobody answers.
            defaults=self.REJECT,
            response_timeout=min(within, timedelta(hours=approval.timeout_hours)),
            assigned_users=[{"id": name, "name": name} for name in approval.approvers] or None,
            **options,
        )
        self.decided = decided

    def execute(self, context: Any) -> Any:
        """Ask and wait; skipped when no person needs to be asked."""
        try:
            question = stages.approve(current_run(), self.decided)
        except NothingToDoError as nothing:
            raise AirflowSkipException(str(nothing)) from nothing
        self.subject, self.body = question["subject"], question["body"]
        where = self.generate_link_to_ui_from_context(context=context)
        send_alert(load_settings(), f"A person is asked: {self.subject} {where}")
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Return the answer."""
        response = HITLOperator.execute_complete(self, context, event)
        person = response["responded_by_user"]
        if person is None:
            return {"answer": "none", "by": None, "at": None}
        approved = response["chosen_options"] == [self.APPROVE]
        return {
            "answer": "approve" if approved else "reject",
            "by": person["name"] or person["id"],
            "at": response["responded_at"].isoformat(),
        }
