"""Lineage of a model version: the snapshot and the parent that it comes from."""

from pydantic import BaseModel, ConfigDict

from recsys.snapshot.reference import SnapshotRef


class Lineage(BaseModel):
    """The feedback and the model from which a new version is trained.

    Attributes
    ----------
    snapshot
        What it trains and is evaluated on.
    parent
        Version that a micro-update starts from; None for a full fine-tune.
    window_ids
        Windows whose feedback is new to it, the newest ones when there are many.
    data_docs
        URI of the Data Docs of the window's validation.
    data_docs_url
        Address of the Data Docs in the Airflow UI, if one is configured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: SnapshotRef
    parent: str | None = None
    window_ids: tuple[int, ...]
    data_docs: str | None = None
    data_docs_url: str | None = None
