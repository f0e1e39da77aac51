"""Settings of evaluation, the gate and approval."""

from typing import Annotated, Literal

from pydantic import Field

from recsys.settings.section import CENTURY_DAYS, YEAR_HOURS, Section


class EvaluationSettings(Section):
    """Evaluation of a candidate on held-out feedback and on logged slates."""

    k: int = Field(10, ge=1, description="length of the evaluated lists, items")
    holdout_share: float = Field(0.1, gt=0, lt=1, description="latest share of all feedback that is held out")
    max_cases_per_user: int = Field(
        20, ge=1, description="held-out events of one user that count, the earliest first"
    )
    max_users: int = Field(20_000, ge=1, description="evaluated users; more are sampled")
    bootstrap_resamples: int = Field(10_000, ge=100, description="resamples of users behind each interval")
    confidence: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals, share")
    target_event_types: tuple[str, ...] = Field(
        (), description="event types whose targets count, as a JSON list; empty: all types with a weight"
    )
    item_slices: tuple[str, ...] = Field((), description="item attributes to slice by, as a JSON list")
    user_slices: tuple[str, ...] = Field((), description="user attributes to slice by, as a JSON list")
    earlier_champion_days: tuple[Annotated[int, Field(ge=1, le=CENTURY_DAYS)], ...] = Field(
        (7, 28),
        description="ages of the champions that a night ranks beside the champion, in days, as a JSON list; "
        "empty: none",
    )
    off_policy_days: int = Field(
        28,
        ge=0,
        le=CENTURY_DAYS,
        description="largest age of the logged slates that are weighted, days; 0: none",
    )
    off_policy_event_types: tuple[str, ...] = Field(
        ("click",), description="types of feedback on a shown item that are its reward, as a JSON list"
    )
    off_policy_min_slates: float = Field(
        1_000.0, ge=1, description="smallest effective sample size that allows a conclusion, slates"
    )
    off_policy_min_overlap: float = Field(
        0.8,
        ge=0,
        le=1,
        description="smallest share of what candidate and champion show differently that the log can show",
    )


GateAction = Literal["reject", "hold", "ask", "ignore"]


class GateSettings(Section):
    """Promotion gate. A margin is a share of the champion's value unless it is absolute."""

    non_inferiority_margin: float = Field(
        0.05, ge=0, description="largest loss of NDCG@k to exclude; share of the champion's"
    )
    require_superiority: bool = Field(
        False, description="nightly: promote only candidates that are shown to be better"
    )
    monthly_error: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="chance that any candidate of a month (UTC) is wrongly called better than the champion",
    )
    require_experiment: bool = Field(
        False,
        description="nightly: hold what the gate would promote until an experiment has shown that users "
        "prefer it; experiment_readout promotes it then",
    )
    coverage_margin: float = Field(
        0.3, ge=0, description="largest fall of catalogue coverage; share of the champion's"
    )
    forgetting_margin: float = Field(
        0.05, ge=0, description="micro-update: largest fall of NDCG@k on guard users; share of the champion's"
    )
    min_evaluated_users: int = Field(
        30, ge=1, description="smallest number of users for a decision, and of guard users for forgetting"
    )
    slice_margin: float = Field(
        0.2, ge=0, description="largest loss of NDCG@k on a slice; share of the champion's"
    )
    list_margin: float = Field(
        0.3, ge=0, description="largest fall of the lists' diversity and novelty; share of the champion's"
    )
    calibration_margin: float = Field(
        0.1, ge=0, description="largest rise of the liking head's calibration error (ECE); absolute"
    )
    auc_margin: float = Field(0.05, ge=0, description="largest fall of the liking head's AUC; absolute")
    off_policy_margin: float = Field(
        0.1, ge=0, description="largest loss of reward on logged slates to exclude; share of what they earned"
    )
    on_fail: dict[str, GateAction] = Field(
        {}, description="action after a failed check, by check name, as JSON; defaults: docs/evaluation.md"
    )
    on_inconclusive: dict[str, GateAction] = Field(
        {}, description="action after an inconclusive check, by check name, as JSON"
    )


class ApprovalSettings(Section):
    """Approval of promotions by a person in the Airflow UI."""

    required_for: Literal["none", "full", "micro", "all"] = Field(
        "none", description="models that need approval; full: nightly, micro: hourly"
    )
    timeout_hours: float = Field(
        4.0, gt=0, le=YEAR_HOURS, description="wait for an answer, hours; without one the champion stays"
    )
    approvers: tuple[str, ...] = Field(
        (), description="Airflow users who may answer, as a JSON list; empty: all who may edit the DAG"
    )
