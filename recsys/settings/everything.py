"""All settings in one object."""

from pathlib import Path

from pydantic import Field, SecretStr

from recsys.errors import ConfigurationError
from recsys.settings.deciding import ApprovalSettings, EvaluationSettings, GateSettings
from recsys.settings.learning import (
    MicroUpdateSettings,
    ModelSettings,
    TrainingSettings,
    TuningSettings,
)
from recsys.settings.publishing import (
    PublishingSettings,
    ServingSettings,
    SummarySettings,
)
from recsys.settings.section import Section
from recsys.settings.upkeep import AlertSettings, PrivacySettings, RetentionSettings
from recsys.settings.validation import ValidationSettings


class Settings(Section):
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
    tuning: TuningSettings = TuningSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    approval: ApprovalSettings = ApprovalSettings()
    publishing: PublishingSettings = PublishingSettings()
    serving: ServingSettings = ServingSettings()
    summaries: SummarySettings = SummarySettings()
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
