"""Every exception of our own. Each says whether trying again can help.

Airflow tasks retry an error only when `retryable` is true: bad data, a wrong setting or too little
memory will be the same in five minutes, a database that is restarting will not.
"""


class RecsysError(Exception):
    """Base of all errors raised on purpose; the message names the value and the next step."""

    retryable = False


class ConfigurationError(RecsysError):
    """A setting is missing or wrong."""


class ServiceUnavailableError(RecsysError):
    """Postgres, MLflow or another service cannot be reached now."""

    retryable = True


class IngestError(RecsysError):
    """A file cannot be read as the table it is meant for."""


class NothingToDoError(RecsysError):
    """There is no work in this run, which ends as skipped with this message as the reason."""


class StaleReferenceError(RecsysError):
    """A task received from an earlier task what this release cannot use."""


class WarehouseError(RecsysError):
    """The warehouse does not hold what is asked for."""


class ValidationFailedError(RecsysError):
    """A table expectation failed: the window must not be trained on."""


class SnapshotError(RecsysError):
    """A snapshot is missing, incomplete or does not match its digest."""


class CheckpointError(RecsysError):
    """A checkpoint cannot be loaded: missing file, other format version or other base encoder."""


class TrainingError(RecsysError):
    """Training cannot produce a sound model from this data or these settings."""


class EvaluationError(RecsysError):
    """A model cannot be evaluated: no held-out feedback, scores of the wrong shape or not finite."""


class OffPolicyError(EvaluationError):
    """Logged slates cannot be weighted: a propensity of 0, above 1 or NaN, or nothing to weight."""


class SimulationError(RecsysError):
    """A world cannot be simulated from these ratings or settings."""


class PromotionConflictError(RecsysError):
    """The champion is no longer the version that the candidate was compared with."""


class PublicationConflictError(RecsysError):
    """The champion kept changing while its recommendations were computed."""

    retryable = True


class RegistryError(RecsysError):
    """A model version is missing or unusable."""


class StackError(RecsysError):
    """The embedded stack cannot be started or stopped."""
