"""Settings of retention, privacy and alerts."""

from pydantic import Field

from recsys.settings.section import CENTURY_DAYS, CENTURY_MONTHS, Section


class RetentionSettings(Section):
    """What housekeeping keeps, and for how long."""

    snapshots_days: int = Field(
        30, ge=1, le=CENTURY_DAYS, description="age at which snapshots and Data Docs are removed, in days"
    )
    training_runs_days: int = Field(
        7, ge=1, le=CENTURY_DAYS, description="age at which folders of training runs are removed, in days"
    )
    model_versions_days: int = Field(
        90, ge=1, le=CENTURY_DAYS, description="age at which model versions are removed from MLflow, in days"
    )
    champions: int = Field(
        20, ge=1, description="number of former champions kept at any age, so that a rollback is possible"
    )
    visitors_days: int = Field(
        90,
        ge=1,
        le=CENTURY_DAYS,
        description="time after the last feedback of a visitor (a session without a user) at which it is all "
        "deleted, in days",
    )
    feedback_months: int | None = Field(
        None,
        ge=1,
        le=CENTURY_MONTHS,
        description="age at which months of feedback are moved out of the table, in months; unset: never",
    )
    impressions_months: int | None = Field(
        None,
        ge=1,
        le=CENTURY_MONTHS,
        description="age at which months of impressions are deleted, in months; unset: never",
    )


class PrivacySettings(Section):
    """What erased users can rely on."""

    model_erasure_days: float = Field(
        14.0,
        gt=0,
        description="time after an erasure request from which no version that was trained on the user may "
        "become champion, in days",
    )
    notice_days: float = Field(
        3.0,
        ge=0,
        description="last part of that time, in which the gate accepts any candidate that is not shown to be "
        "worse in place of such a champion, in days",
    )
    visitor_consent: bool = Field(
        True,
        description="consent to training of visitors (sessions without a user) whose consent the application "
        "has not stated with set_session_consent",
    )


class AlertSettings(Section):
    """When to send an alert."""

    max_open_transaction_minutes: float = Field(
        60.0,
        gt=0,
        description="age of the oldest writing transaction above which training and housekeeping alert",
    )
    max_list_hours: float = Field(
        36.0, gt=0, description="age of the lists of all users above which monitoring alerts, in hours"
    )
    response_fall: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="fall of the share of slates that users answer, against the week before, that alerts",
    )
    champion_decline: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="loss of NDCG@k against the champion of a week or a month ago that alerts, share",
    )
    dislike_times: float = Field(
        3.0,
        ge=1,
        description="people who dislike an item in a day, in multiples of what is usual, that alert",
    )
