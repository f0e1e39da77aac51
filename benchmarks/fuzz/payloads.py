"""Requests to a served model: each is answered, or refused with status 4xx and a reason."""

import json
import math
import string
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.inputs import Finding, Input
from benchmarks.fuzz.mutations import mutate_bytes

_ITEMS = [f"item{number}" for number in range(12)]
_TYPES = ("dislike", "rating")
_EVENT = {
    "item_id": "item0",
    "event_type": "rating",
    "value": 5.0,
    "occurred_at": "2026-01-01T00:00:00+00:00",
}
_ANY: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2.5, 10**400, 1e308, "", "x", "5", "nan", [], [None], {}, {"a": 1}, [[]], "\u0000",
    "🎬", "x" * 5000, float("nan"), float("inf"), [1, "a"], "item1", "rating", "2026-01-01",
    "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "20260101T000000Z",
    "yesterday", "\ud800", -0.0, 5, "item5", 2**63, 12, 13,
)  # fmt: skip


def make_payload(random: Random, kind: str) -> Input:
    """Return a mutated request."""
    users = []
    for _ in range(random.randint(1, 3)):
        events = [dict(_EVENT, item_id=random.choice(_ITEMS)) for _ in range(random.randint(0, 4))]
        user: dict[str, Any] = {"history": events}
        if random.random() < 0.4:
            user["request"] = random.choice(("something new", "", None, "book"))
        users.append(user)
    body: dict[str, Any] = {"dataframe_records": users}
    if random.random() < 0.6:
        body["params"] = {"k": random.randint(1, 12), "exclude_consumed": random.random() < 0.7}
    for _ in range(random.choice((0, 1, 1, 2))):
        _mutate(random, body)
    content = json.dumps(body, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    if random.random() < 0.15:
        content = mutate_bytes(random, content, most=2)
    return Input(kind, "payload.json", content)


def _mutate(random: Random, body: dict[str, Any]) -> None:
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [body]
    while waiting:
        found = waiting.pop()
        for key, value in list(found.items()) if isinstance(found, dict) else list(enumerate(found)):
            places.append((found, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    if not places:
        return
    holder, key = random.choice(places)
    if isinstance(holder, dict) and random.random() < 0.2:
        del holder[key]
    elif isinstance(holder, dict) and random.random() < 0.1:
        holder[f"{key}_"] = holder.pop(key)
    else:
        holder[key] = random.choice(_ANY)


class ServedModel:
    """A small untrained model behind MLflow's scoring server, in this process."""

    def __init__(self, folder: Path) -> None:
        import mlflow
        import torch

        from recsys.model.checkpoint import save_recommender
        from recsys.model.recommender import Recommender
        from recsys.registry import pyfunc_model
        from recsys.settings import ModelSettings
        from recsys.snapshot.event_types import EventTypes
        from recsys.snapshot.sequences import Catalogue

        torch.manual_seed(0)
        rating = {"min_value": 0.5, "max_value": 5.0, "negative_to": 2.0, "positive_from": 4.0}
        types = EventTypes.from_records(
            [
                {"event_type": "dislike", "explicit": True, "weight": 0.0, "polarity": -1},
                {"event_type": "rating", "explicit": True, "weight": 1.0, "polarity": 0, **rating},
            ]
        )
        encoder = _write_encoder(folder / "encoder")
        settings = ModelSettings(base_encoder=str(encoder), dim=8, layers=1, heads=1, max_events=5)
        catalogue = Catalogue.build(_ITEMS, titles=[name.title() for name in _ITEMS])
        save_recommender(
            Recommender.build(settings, catalogue, types).eval(), folder / pyfunc_model.CHECKPOINT
        )
        mlflow.pyfunc.save_model(
            folder / "model",
            python_model=str(Path(pyfunc_model.__file__).with_name("pyfunc_code.py")),
            artifacts={pyfunc_model.CHECKPOINT: str(folder / pyfunc_model.CHECKPOINT)},
            signature=pyfunc_model.signature(),
            pip_requirements=[],
        )
        self._model = mlflow.pyfunc.load_model(str(folder / "model"))

    def ask(self, content: bytes) -> Any:
        """Return the answer of the scoring server; raise MlflowException for a refusal."""
        from mlflow.pyfunc.scoring_server import invocations

        schema = self._model.metadata.get_input_schema()
        return invocations(content.decode(), "application/json", self._model, schema)


def _write_encoder(folder: Path) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *string.digits]
    words += [f"##{word}" for word in words[5:]]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def check_payload(model: ServedModel, given: Input) -> list[Finding]:
    """Send a request; return what is wrong with the answer."""
    from mlflow.exceptions import MlflowException

    wrong = _wrong(given.content)
    try:
        answer = model.ask(given.content)
    except MlflowException as refusal:
        if "unexpected error" in refusal.message or not 400 <= refusal.get_http_status_code() < 500:
            trace = refusal.serialize_as_json() + traceback.format_exc()
            return [Finding("traceback", trace)] if "recsys/" in trace else []
        if wrong is None:
            return [Finding("needless_rejection", f"a valid request was refused: {refusal.message[-300:]}")]
        return []
    except UnicodeDecodeError:
        return []  # the server reads the body as UTF-8
    except Exception:
        trace = traceback.format_exc()
        return [Finding("traceback", trace)] if "recsys/" in trace else []
    if answer.status != 200:
        return []
    if wrong not in (None, "?"):
        return [Finding("silent_change", f"a wrong request was answered: {wrong}")]
    return [] if wrong else _check_answer(json.loads(given.content), json.loads(answer.response))


def _check_answer(body: Mapping[str, Any], answer: Mapping[str, Any]) -> list[Finding]:
    params = body.get("params") or {}
    k, exclude = params.get("k", 10), params.get("exclude_consumed", True)
    lists = answer["predictions"]
    if len(lists) != len(body["dataframe_records"]):
        return [Finding("lost_row", f"{len(lists)} answers to {len(body['dataframe_records'])} users")]
    for user, given in zip(body["dataframe_records"], lists, strict=True):
        consumed = {event["item_id"] for event in user["history"]} & set(_ITEMS) if exclude else set()
        items, scores = given["item_ids"], given["scores"]
        expected = min(k, len(_ITEMS) - len(consumed))
        if (
            len(set(items)) != expected
            or not set(items) <= set(_ITEMS) - consumed
            or scores != sorted(scores, reverse=True)
            or not all(map(math.isfinite, scores))
        ):
            return [Finding("silent_change", f"{expected} items were asked for, not {given}")]
    return []


def _wrong(content: bytes) -> str | None:
    """Say what is wrong with a request; None: nothing, "?": MLflow may convert it."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(body, dict) or not isinstance(body.get("dataframe_records"), list):
        return "no records"
    if not set(body) <= {"dataframe_records", "params"} or not body["dataframe_records"]:
        return "?"
    reasons = [_wrong_params(body.get("params"))]
    for user in body["dataframe_records"]:
        if not isinstance(user, dict) or not isinstance(user.get("history"), list):
            return "no history"
        request = user.get("request")
        if not (request is None or isinstance(request, str)):
            reasons.append("?")
        reasons += [_wrong_event(event) for event in user["history"]]
        if not set(user) <= {"history", "request"}:
            reasons.append("?")
    if "\\ud" in json.dumps(body):
        reasons.append("?")  # half of a surrogate pair is no text that could be encoded
    # Users with and without a request, and such mixtures in events, become NaN in MLflow's table.
    stated = [reason for reason in reasons if reason not in (None, "?")]
    return stated[0] if stated else "?" if "?" in reasons else None


def _wrong_params(params: Any) -> str | None:
    if params is None or params == {}:
        return None
    if not isinstance(params, dict) or not set(params) <= {"k", "exclude_consumed"}:
        return "?"
    k, exclude = params.get("k", 10), params.get("exclude_consumed", True)
    if isinstance(k, int) and not isinstance(k, bool) and not 1 <= k <= len(_ITEMS):
        return f"k is {k}"
    return None if type(k) is int and isinstance(exclude, bool) else "?"


def _wrong_event(event: Any) -> str | None:
    if not isinstance(event, dict):
        return "an event is no object"
    for name in ("item_id", "event_type", "occurred_at"):
        if not isinstance(event.get(name), str) or not event[name]:
            return f"{name} is no text"
    if event["event_type"] not in _TYPES:
        return "an unknown event type"
    try:
        moment = datetime.fromisoformat(event["occurred_at"])
    except ValueError:
        return "not a time"
    if moment.tzinfo is None:
        return "no time zone"
    value = event.get("value")
    if isinstance(value, float) and math.isnan(value):
        return "?"  # MLflow cannot tell it from a value that is missing
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        return "value is no number"
    if value is not None and (abs(value) > 1.7976931348623157e308):
        return "value is not finite"
    return None if set(event) <= {"item_id", "event_type", "occurred_at", "value"} else "?"
