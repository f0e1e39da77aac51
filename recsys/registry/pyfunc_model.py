"""The recommender as an MLflow pyfunc ("models from code"), never pickled.

Input, one row per user: `history`, a list of events `{item_id, event_type, value?, occurred_at}`, and
optionally `request`, a request in natural language, and `candidates`, a list of item ids: then only these are
ranked. Parameters: `k` and `exclude_consumed`. Items that the model does not know are left out of histories
and candidates. Items that were withdrawn before it was trained, or that are not available at the time of the
request by the times that it knows, are not recommended. Any other error is reported with the row and the
reason.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property
from numpy.typing import NDArray

from recsys.model.checkpoint import load_recommender
from recsys.model.explanation import ListExplainer
from recsys.model.ranking import NO_ITEM, mask_hidden, mask_unavailable, top_k_things
from recsys.model.recommender import Recommender
from recsys.snapshot.sequences import Sequences, microseconds

CHECKPOINT = "checkpoint"
_DEFAULT_K = 10


def signature() -> ModelSignature:
    """Return the schema of the model's input, output and parameters."""
    event = Object(
        [
            Property("item_id", DataType.string),
            Property("event_type", DataType.string),
            Property("value", AnyType(), required=False),
            Property("occurred_at", DataType.string),
        ]
    )
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(Array(event), "history"),
                ColSpec(DataType.string, "request", required=False),
                ColSpec(Array(DataType.string), "candidates", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(Array(DataType.string), "item_ids"),
                ColSpec(Array(DataType.string), "titles"),
                ColSpec(Array(DataType.double), "scores"),
                ColSpec(Array(DataType.string), "reasons"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("k", DataType.long, _DEFAULT_K),
                ParamSpec("exclude_consumed", DataType.boolean, True),
            ]
        ),
    )


def input_example(recommender: Recommender) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return an example payload: one user who liked the model's first item."""
    types = recommender.event_types
    kind = int(np.argmax(types.weight))
    event = {
        "item_id": str(recommender.catalogue.item_ids[0]),
        "event_type": types.names[kind],
        "value": float(types.max_value[kind]) if types.carries_value[kind] else 1.0,
        "occurred_at": "2026-01-01T12:00:00+00:00",
    }
    return pd.DataFrame({"history": [[event]], "request": ["something new"]}), {
        "k": min(3, len(recommender.catalogue)),
        "exclude_consumed": True,
    }


class RecommenderModel(PythonModel):  # type: ignore[misc]
    """Recommends items to users given by their histories."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the checkpoint that was logged with the model."""
        self.recommender = load_recommender(context.artifacts[CHECKPOINT])

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 (MLflow passes it by name)
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return `item_ids`, `titles`, `scores` and `reasons`, best first, one row per user."""
        return recommend(self.recommender, model_input, params or {})


def recommend(recommender: Recommender, users: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
    """Answer one request; see the module's docstring.

    Raises
    ------
    MlflowException
        The payload is wrong; the message gives the row and the reason. An HTTP server answers 400.
    """
    k = params.get("k", _DEFAULT_K)
    if not 1 <= k <= len(recommender.catalogue):
        raise _bad(f"k must be from 1 to {len(recommender.catalogue)}, not {k}")
    if "history" not in users.columns:
        raise _bad(f"the column 'history' is missing; there are {list(users.columns)}")
    now = datetime.now(UTC)
    histories = _histories(recommender, users["history"]).asked(now)
    scorer = recommender.scorer()
    vectors = scorer.user_vectors(histories)
    scores = scorer.score(vectors, histories, _requests(users)).cpu().numpy()
    if "candidates" in users.columns:
        scores = _mask_others(scores, recommender, users["candidates"])
    scores = mask_unavailable(scores, recommender.catalogue, microseconds(now))
    if params.get("exclude_consumed", True):
        scores = mask_hidden(scores, histories)
    index, values = top_k_things(scores, k, recommender.catalogue)
    lists = [row[row != NO_ITEM] for row in index]
    catalogue = recommender.catalogue
    reasons = ListExplainer(scorer)(histories, vectors, index).sentences()
    return pd.DataFrame(
        {
            "item_ids": [catalogue.item_ids[row].tolist() for row in lists],
            "titles": [[catalogue.titles[item] for item in row] for row in lists],
            "scores": [row[row != -np.inf].astype(float).tolist() for row in values],
            "reasons": [sentences[: len(items)] for sentences, items in zip(reasons, lists, strict=True)],
        }
    )


def _mask_others(
    scores: NDArray[np.float32], recommender: Recommender, candidates: Iterable[Any]
) -> NDArray[np.float32]:
    """Set the scores of all items that are not among a user's candidates to minus infinity."""
    for row, items in enumerate(candidates):
        if items is None or (isinstance(items, float) and math.isnan(items)):
            continue
        if not isinstance(items, list | tuple | np.ndarray):
            raise _bad(f"row {row}: candidates must be a list of item ids, not {type(items).__name__}")
        for item in items:
            if not isinstance(item, str):
                raise _bad(f"row {row}: a candidate must be text, not {_shown(item)}")
        wanted = recommender.catalogue.lookup(list(items))
        others = np.ones(scores.shape[1], dtype=bool)
        others[wanted[wanted >= 0]] = False
        scores[row, others] = -np.inf
    return scores


def _histories(recommender: Recommender, histories: Iterable[Any]) -> Sequences:
    users: list[int] = []
    items: list[str] = []
    kinds: list[int] = []
    values: list[float] = []
    times: list[int] = []
    count = 0
    for row, events in enumerate(histories):
        count += 1
        if not isinstance(events, list | tuple | np.ndarray):
            raise _bad(f"row {row}: history must be a list of events, not {type(events).__name__}")
        for place, event in enumerate(events):
            where = f"row {row}, event {place}"
            if not isinstance(event, Mapping):
                raise _bad(f"{where}: an event must be an object, not {type(event).__name__}")
            kind = recommender.event_types.index.get(_text(event, "event_type", where))
            if kind is None:
                names = ", ".join(recommender.event_types.names)
                raise _bad(f"{where}: unknown event type {event['event_type']!r}; known are {names}")
            users.append(row)
            items.append(_text(event, "item_id", where))
            kinds.append(kind)
            values.append(_value(event.get("value"), where))
            times.append(_time(_text(event, "occurred_at", where), where))
    return Sequences.build(
        user_keys=[str(row) for row in range(count)],
        user_index=users,
        item_index=recommender.catalogue.lookup(items),
        event_type=kinds,
        value=values,
        occurred_at=times,
        feedback_id=range(len(users)),
        event_types=recommender.event_types,
        rest_days=recommender.catalogue.rest_days,
    )


def _requests(users: pd.DataFrame) -> list[str] | None:
    if "request" not in users.columns:
        return None
    requests = ["" if request is None or request is pd.NA else request for request in users["request"]]
    requests = ["" if isinstance(request, float) and np.isnan(request) else request for request in requests]
    for row, request in enumerate(requests):
        if not isinstance(request, str):
            raise _bad(f"row {row}: request must be text, not {type(request).__name__}")
    return requests if any(requests) else None


def _text(event: Mapping[str, Any], name: str, where: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise _bad(f"{where}: {name} must be text, not {_shown(value)}")
    return value


def _value(value: Any, where: str) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool | np.complexfloating) or not isinstance(value, int | float | np.number):
        raise _bad(f"{where}: value must be a number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # JSON has integers of any length
        number = math.inf
    if math.isinf(number):
        raise _bad(f"{where}: value must be finite and fit a double")
    return number


def _shown(value: Any) -> str:
    """Return a value for a message; Python refuses to write an integer of thousands of digits."""
    try:
        return repr(value)[:100]
    except ValueError:
        return f"a {type(value).__name__} of thousands of digits"


def _time(text: str, where: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise _bad(f"{where}: occurred_at must be ISO 8601 with a time zone, not {text!r}")
    return microseconds(time)


def _bad(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)
