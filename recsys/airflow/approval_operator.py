"""The DAG task that asks a person."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from recsys.alerts import send_alert
from recsys.pipeline.references import Decided
from recsys.promotion.approval import body, subject
from recsys.promotion.decision import ASK
from recsys.settings import load_settings

AFTER_APPROVAL = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
"""Trigger rule of the task after it, which runs whether or not a person was asked and skips with the gate."""


class ApprovePromotion(ApprovalOperator):  # type: ignore[misc]
    """Ask a person when the gate wants it; skipped when it does not.

    Returns the fields of `recsys.promotion.decision.Response`. A rejection skips nothing downstream, because
    the next task records it; no answer in time counts as an answer too.

    Parameters
    ----------
    decided
        Output of the task `gate`.
    within
        Longest wait for the answer; a shorter one in the settings takes precedence.
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
        """Ask and wait; skip when nobody needs to be asked."""
        decided = Decided.model_validate(self.decided)
        if decided.decision.action != ASK:
            raise AirflowSkipException(
                f"nobody needs to be asked: the gate's decision is {decided.decision.action}"
            )
        self.subject = subject(decided.version, decided.decision)
        self.body = body(decided.decision, decided.links)
        where = self.generate_link_to_ui_from_context(context=context)
        send_alert(load_settings(), f"Approval needed: {self.subject} {where}")
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
