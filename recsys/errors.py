"""All exceptions that recsys raises. Each says whether a retry can help.

An Airflow task is retried only if the error's `retryable` is true. A retry does not fix bad data, a wrong
setting or too little memory, but it can succeed once a database has restarted.
"""


class RecsysError(Exception):
    """Base class of all our errors; the message names the value and the next step."""

    retryable = False


class ConfigurationError(RecsysError):
    """A setting is missing or wrong."""


class ServiceUnavailableError(RecsysError):
    """Postgres, MLflow or another service is not available now. A retry can help."""

    retryable = True


class IngestError(RecsysError):
    """A file cannot be read as rows of its table."""


class NothingToDoError(RecsysError):
    """The run has no work; it ends as skipped with this message as the reason."""


class StaleReferenceError(RecsysError):
    """A task received from an earlier task what this release cannot use."""


class WarehouseError(RecsysError):
    """A requested row does not exist in the warehouse or is in the wrong state."""


class ValidationFailedError(RecsysError):
    """A table expectation failed; the window must not be trained on."""


class SnapshotError(RecsysError):
    """A snapshot is missing, incomplete or does not match its digest."""


class CheckpointError(RecsysError):
    """A checkpoint cannot be loaded: a file is missing, or the format version or base encoder differs."""


class TrainingError(RecsysError):
    """Training cannot produce a usable model from this data or these settings."""


class EvaluationError(RecsysError):
    """A model cannot be evaluated: no held-out feedback, or scores of the wrong shape or not finite."""


class OffPolicyError(EvaluationError):
    """Logged slates cannot be weighted: a propensity of 0, above 1 or NaN, or nothing to weight."""


class SimulationError(RecsysError):
    """A world cannot be simulated from these ratings or settings."""


class ExperimentError(RecsysError):
    """An experiment cannot be started or ended like this."""


class PromotionConflictError(RecsysError):
    """The champion is no longer the version that the candidate was compared with."""


class PublicationConflictError(RecsysError):
    """The champion kept changing while its recommendations were computed. A retry can help."""

    retryable = True


class RegistryError(RecsysError):
    """A model version is missing or unusable."""


class ErasedUsersError(RegistryError):
    """A version was trained on users who have been erased since, and may not become champion any more."""


class StackError(RecsysError):
    """The embedded stack cannot be started or stopped."""
