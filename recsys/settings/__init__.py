"""All settings, typed, in one object that is passed in.

`load_settings` reads them from the environment (prefix `RECSYS_`, `__` between levels, for example
`RECSYS_TRAINING__EPOCHS=20`) and from the file `recsys.env` in the home folder, which `recsys up`
writes so that later commands find the stack. Only the command line and Airflow's task wrapper call it.
"""

from recsys.settings.deciding import ApprovalSettings, EvaluationSettings, GateAction, GateSettings
from recsys.settings.environment import ENV_FILE_NAME, load_settings
from recsys.settings.everything import Settings
from recsys.settings.learning import (
    MicroUpdateSettings,
    ModelSettings,
    TrainingSettings,
    TuningSettings,
)
from recsys.settings.publishing import (
    ExplorationSettings,
    PublishingSettings,
    ServingSettings,
    SummarySettings,
    VisitorListSettings,
)
from recsys.settings.upkeep import AlertSettings, PrivacySettings, RetentionSettings
from recsys.settings.validation import (
    Bounds,
    CoverageBounds,
    DriftBounds,
    FreshnessBounds,
    LowerBounds,
    NullRateBounds,
    UpperBounds,
    ValidationSettings,
    ValidShareBounds,
    VolumeBounds,
)

__all__ = [
    "ENV_FILE_NAME",
    "AlertSettings",
    "ApprovalSettings",
    "Bounds",
    "CoverageBounds",
    "DriftBounds",
    "EvaluationSettings",
    "ExplorationSettings",
    "FreshnessBounds",
    "GateAction",
    "GateSettings",
    "LowerBounds",
    "MicroUpdateSettings",
    "ModelSettings",
    "NullRateBounds",
    "PrivacySettings",
    "PublishingSettings",
    "RetentionSettings",
    "ServingSettings",
    "Settings",
    "SummarySettings",
    "TrainingSettings",
    "TuningSettings",
    "UpperBounds",
    "ValidShareBounds",
    "ValidationSettings",
    "VisitorListSettings",
    "VolumeBounds",
    "load_settings",
]
