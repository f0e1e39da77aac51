"""Write and read checkpoints of a recommender: safetensors, JSON and Parquet; no pickles.

``manifest.json``
    format version, settings, base encoder with digest, event types, fusion weights, and entries of the
    writer (for example what the model was trained on, its parent, its seed).
``weights.safetensors``
    all weights except those of items, and the text encoder's weights that differ from its base. It holds
    the weights of the comment reader, but no comment and no vector of one.
``items.parquet``
    item_id, title, text digest, whether trained, popularity count, rest days, when the item is
    available, when it was first chosen, the first item that is the same thing, and answers and expected
    answers in shown lists, if the model has appeal; row i belongs to row i of the tables below.
``text_vectors.safetensors``, ``item_ids.safetensors``, ``answers.safetensors``
    text vectors [items, width] and features of numbers [items, numbers width], id vectors [items, dim], and
    request vectors [items, width]. Items are matched by id, so a new item never breaks a checkpoint.
``collaborative.safetensors``
    the item-to-item weights (sparse, by row), if the model has them: up to 100 for each item.
``co_occurrences.safetensors``
    how many users consumed both of two items. A micro-update solves the item-to-item weights from these
    counts; nothing else reads them. Upper triangle, sparse by row, in the smallest integer type that holds
    the counts. Older checkpoints have no such file.
``succession.safetensors``
    how many people chose an item soon after another one (sparse, by row), if the model uses it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy
import safetensors.torch
import scipy.sparse
import torch
from numpy.typing import ArrayLike, NDArray

from recsys.errors import CheckpointError, ConfigurationError
from recsys.model.appeal import Appeal
from recsys.model.base_encoder import EncoderIdentity, check_encoder, find_base_encoder
from recsys.model.co_occurrences import CoOccurrences
from recsys.model.collaborative import EASE, Popularity
from recsys.model.fusion import REQUEST, REQUEST_WEIGHTS, Fusion
from recsys.model.item_age import ItemAges
from recsys.model.item_numbers import ItemNumbers
from recsys.model.live_interest import LiveInterest
from recsys.model.recent import RecentPopularity
from recsys.model.recommender import Recommender
from recsys.model.succession import Succession
from recsys.settings import ModelSettings
from recsys.snapshot.catalogue import ALWAYS, WITHOUT_END
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CO_OCCURRENCES = "co_occurrences.safetensors"
SUCCESSION = "succession.safetensors"
_TEXT = "text."
_COMMENTS = "comments."
_REQUESTS = "requests."
_OLD_REQUESTS = "request."
"""Weights of a request head in earlier versions, which `RequestMatcher` has replaced."""
_OLD_DECAY = ".decay.power"
"""How attention decayed with time in earlier versions; the decay gained nothing in the fused score."""
_RETIRED_SETTINGS = ("max_comment_tokens", "collaborative_neighbours", "collaborative_max_items")
"""Settings of earlier versions that are constants now, or limits that are gone."""


def save_recommender(model: Recommender, folder: Path, **entries: object) -> None:
    """Write a checkpoint; the manifest comes last, because a folder without one is not a checkpoint.

    Parameters
    ----------
    entries
        Further entries of the manifest, JSON-ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
        if name != "items.ids" and not name.startswith(_TEXT)
    }
    text_state = model.text.trained_state() if model.text is not None else model.text_state
    weights |= {_TEXT + name: value.detach().cpu().contiguous() for name, value in text_state.items()}
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    vectors = {"text_vectors": model.text_vectors.cpu().contiguous()}
    if model.numbers.width:
        vectors["numbers"] = model.items.numbers.cpu().contiguous()
    safetensors.torch.save_file(vectors, folder / "text_vectors.safetensors")
    safetensors.torch.save_file(
        {"ids": model.items.ids.detach().cpu().contiguous()}, folder / "item_ids.safetensors"
    )
    if model.request_vectors is not None:
        safetensors.torch.save_file(
            {"answers": model.request_vectors.cpu().contiguous()}, folder / "answers.safetensors"
        )
    recent, ages, appeal = model.recent, model.ages, model.appeal
    pq.write_table(
        pa.table(
            {
                "item_id": pa.array(model.catalogue.item_ids.tolist(), pa.string()),
                "title": pa.array(model.catalogue.titles, pa.string()),
                "text_digest": pa.array(model.text_digests, pa.string()),
                "trained": pa.array(model.items.trained.cpu().numpy()),
                "proxy": pa.array(model.proxies.cpu().numpy().astype(np.int32)),
                "count": pa.array(model.popularity.counts),
                "rest_days": pa.array(model.catalogue.rest_days),
                "available": pa.array(model.catalogue.available),
                "available_from": pa.array(model.catalogue.available_from),
                "available_until": pa.array(model.catalogue.available_until),
                "group": pa.array(model.catalogue.group),
                "recent": pa.array(np.zeros(len(model.catalogue)) if recent is None else recent.counts),
                **({} if ages is None else {"first_event": pa.array(ages.first_event)}),
                **(
                    {}
                    if appeal is None
                    else {"answers": pa.array(appeal.answers), "expected_answers": pa.array(appeal.expected)}
                ),
            }
        ),
        folder / "items.parquet",
    )
    if model.collaborative is not None:
        csr = model.collaborative.weights
        safetensors.numpy.save_file(
            {
                "data": csr.data.astype(np.float32),
                "indices": csr.indices.astype(np.min_scalar_type(csr.shape[1])),
                "indptr": csr.indptr.astype(np.int64),
                "negative": np.array([model.collaborative.negative], dtype=np.float32),
            },
            folder / "collaborative.safetensors",
        )
        if model.collaborative.co_occurrences is not None:
            _save_counts(model.collaborative.co_occurrences.counts, folder / CO_OCCURRENCES)
    if model.succession is not None:
        _save_counts(model.succession.counts, folder / SUCCESSION)
    content = {
        "format_version": FORMAT_VERSION,
        "model": model.settings.model_dump(mode="json"),
        "base_encoder": {
            "name": model.encoder.name,
            "sha256": model.encoder.sha256,
            "width": model.encoder.width,
        },
        "event_types": model.event_types.to_records(),
        "fusion": dict(model.fusion.weights),
        "returning_fusion": dict(model.returning_fusion.weights),
        "request_fusion": dict(model.request_fusion.weights),
        "live_interest": asdict(model.live_interest),
        "collaborative": model.collaborative is not None,
        "succession": model.succession is not None,
        "numbers": {name: quantiles.tolist() for name, quantiles in model.numbers.edges.items()},
        "recent": None
        if recent is None
        else {"as_of": recent.as_of, "half_life_days": recent.half_life_days},
        "libraries": {"torch": torch.__version__, "numpy": np.__version__},
        **entries,
    }
    temporary = folder / f"{MANIFEST}.tmp"
    temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    temporary.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest.

    Raises
    ------
    CheckpointError
        There is no manifest, or it has another format version.
    """
    path = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint: {path.name} cannot be read ({error})"
        ) from error
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"the checkpoint {folder} has format version {content.get('format_version')!r}, but this code "
            f"reads {FORMAT_VERSION}; run a full fine-tune with this version"
        )
    return content


def load_recommender(folder: Path | str, *, to_update: bool = False) -> Recommender:
    """Read a checkpoint on the CPU, with the catalogue it was saved with (item ids, titles, text digests).

    The base encoder is loaded later, when a text must be encoded. If it is on this machine its digest is
    checked now.

    Parameters
    ----------
    to_update
        Also read what only a micro-update needs.

    Raises
    ------
    CheckpointError
        A file is missing or broken, or the format version or the base encoder differs.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    encoder = EncoderIdentity(**manifest["base_encoder"])
    _check_local_encoder(encoder)
    try:
        items = pq.read_table(folder / "items.parquet")
        weights = safetensors.torch.load_file(folder / "weights.safetensors")
        vectors = safetensors.torch.load_file(folder / "text_vectors.safetensors")
        ids = safetensors.torch.load_file(folder / "item_ids.safetensors")["ids"]
        names = np.empty(items.num_rows, dtype=object)
        names[:] = items["item_id"].to_pylist()
        catalogue = Catalogue(
            item_ids=names,
            titles=items["title"].to_pylist(),
            texts=[""] * len(names),
            available=_column(items, "available", np.bool_, True),
            attributes=[{}] * len(names),
            rest_days=_column(items, "rest_days", np.float32, np.nan),
            available_from=_column(items, "available_from", np.int64, ALWAYS),
            available_until=_column(items, "available_until", np.int64, WITHOUT_END),
            group=_column(items, "group", np.int64, np.arange(len(names))),
        )
        event_types = EventTypes.from_records(manifest["event_types"])
        settings = ModelSettings(
            **{name: value for name, value in manifest["model"].items() if name not in _RETIRED_SETTINGS}
        )
        numbers = ItemNumbers({name: np.array(row) for name, row in manifest.get("numbers", {}).items()})
        model = Recommender(
            settings, catalogue, event_types, encoder, vectors["text_vectors"], numbers,
            items["text_digest"].to_pylist(),
        )  # fmt: skip
        if numbers.width:  # this catalogue has no attributes
            model.items.numbers.copy_(vectors["numbers"])
        own = {
            name: value
            for name, value in weights.items()
            if not name.startswith((_TEXT, _OLD_REQUESTS)) and not name.endswith(_OLD_DECAY)
        }
        # Parts that an older checkpoint does not have stay untrained.
        untrained = {n: v for n, v in model.state_dict().items() if n.startswith((_COMMENTS, _REQUESTS))}
        model.load_state_dict(untrained | own | {"items.ids": ids})
        if (folder / "answers.safetensors").is_file():
            model.request_vectors = safetensors.torch.load_file(folder / "answers.safetensors")["answers"]
        model.items.trained.copy_(torch.from_numpy(items["trained"].to_numpy(zero_copy_only=False)))
        model.popularity = Popularity(items["count"].to_numpy().astype(np.float32))
        if manifest.get("recent"):
            model.recent = RecentPopularity(items["recent"].to_numpy(), **manifest["recent"])
        if "first_event" in items.column_names:  # older checkpoints know no ages
            model.ages = ItemAges(items["first_event"].to_numpy())
        if "answers" in items.column_names:
            model.appeal = Appeal(items["answers"].to_numpy(), items["expected_answers"].to_numpy())
        if manifest["collaborative"]:
            model.collaborative = _load_collaborative(folder, len(names), to_update)
        if manifest.get("succession"):
            counts = _sparse(safetensors.numpy.load_file(folder / SUCCESSION), len(names))
            model.succession = Succession(counts)
    except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folder} is incomplete or broken: {error}") from error
    model.text_state = {
        name.removeprefix(_TEXT): value for name, value in weights.items() if name.startswith(_TEXT)
    }
    model.fusion = Fusion(manifest["fusion"])
    # An older checkpoint has one set of weights for all users without a request.
    model.returning_fusion = Fusion(manifest.get("returning_fusion", manifest["fusion"]))
    with_request = manifest["request_fusion"]
    model.request_fusion = Fusion(with_request if REQUEST in with_request else REQUEST_WEIGHTS)
    model.live_interest = LiveInterest(**manifest.get("live_interest", {}))
    if "proxy" in items.column_names:  # those of an older checkpoint are chosen when they are first read
        model.keep_proxies(items["proxy"].to_numpy().astype(np.int64))
    return model.eval()


def _column(items: pa.Table, name: str, dtype: type[np.generic], default: ArrayLike) -> NDArray[Any]:
    if name not in items.column_names:  # written by an older release
        return np.full(items.num_rows, default, dtype=dtype)
    return np.asarray(items[name].to_numpy(zero_copy_only=False), dtype=dtype)


def _check_local_encoder(encoder: EncoderIdentity) -> None:
    try:
        found = find_base_encoder(encoder.name, download=False)
    except ConfigurationError:
        return
    check_encoder(encoder, found.sha256)


def _load_collaborative(folder: Path, n_items: int, to_update: bool) -> EASE:
    stored = safetensors.numpy.load_file(folder / "collaborative.safetensors")
    weights = _sparse(stored, n_items)
    counts = None
    if to_update and (folder / CO_OCCURRENCES).is_file():
        counts = CoOccurrences(_sparse(safetensors.numpy.load_file(folder / CO_OCCURRENCES), n_items))
    return EASE(weights, float(stored["negative"][0]), counts)


def _sparse(stored: Mapping[str, NDArray[Any]], n_items: int) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix(
        (stored["data"].astype(np.float32), stored["indices"].astype(np.int32), stored["indptr"]),
        shape=(n_items, n_items),
    )


def _save_counts(counts: scipy.sparse.csr_matrix, path: Path) -> None:
    tensors = {
        "data": counts.data.astype(np.min_scalar_type(int(counts.data.max(initial=0)))),
        "indices": counts.indices.astype(np.min_scalar_type(counts.shape[1])),
        "indptr": counts.indptr.astype(np.int64),
    }
    safetensors.numpy.save_file(tensors, path)
