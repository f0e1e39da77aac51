"""Checkpoints of a recommender: safetensors, JSON and Parquet; no pickles.

``manifest.json``
    format version, settings, base encoder with digest, event types, fusion weights and what the writer
    added (what the model has trained on, its parent, its seed).
``weights.safetensors``
    all weights that do not belong to items, and those of the text encoder that differ from its base.
    Of comments it holds what was learned from them, never a comment or its vector.
``items.parquet``
    item_id, title, text digest, whether met in training, popularity count: row i of the item tables.
``text_vectors.safetensors``, ``item_ids.safetensors``, ``answers.safetensors``
    [items, width], [items, dim] and, what items answer to requests, [items, width] by row; matched by item
    id, so that no new item breaks a checkpoint.
``collaborative.safetensors``
    the item-to-item weights, sparse by row, when the model has them.
``co_occurrences.safetensors``
    how many users consumed both of two items, which these weights were solved from and a micro-update
    solves them from anew. Counts only, the upper triangle sparse by row, in the fewest bytes that hold
    them; nobody else reads it. Checkpoints from before it was kept have none.
"""

import json
from collections.abc import Mapping
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
from numpy.typing import NDArray

from recsys.errors import CheckpointError, ConfigurationError
from recsys.model.base_encoder import EncoderIdentity, check_encoder, find_base_encoder
from recsys.model.collaborative import EASE, CoOccurrences, Popularity
from recsys.model.fusion import REQUEST, REQUEST_WEIGHTS, Fusion
from recsys.model.recommender import Recommender
from recsys.settings import ModelSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CO_OCCURRENCES = "co_occurrences.safetensors"
_TEXT = "text."
_COMMENTS = "comments."
_REQUESTS = "requests."
_OLD_REQUESTS = "request."
"""A head of earlier versions, in whose place matching came."""


def save_recommender(model: Recommender, folder: Path, manifest: Mapping[str, object]) -> None:
    """Write a checkpoint into `folder`, its manifest last: a folder without one is not a checkpoint."""
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
    safetensors.torch.save_file(
        {"text_vectors": model.text_vectors.cpu().contiguous()}, folder / "text_vectors.safetensors"
    )
    safetensors.torch.save_file(
        {"ids": model.items.ids.detach().cpu().contiguous()}, folder / "item_ids.safetensors"
    )
    if model.answers is not None:
        safetensors.torch.save_file(
            {"answers": model.answers.cpu().contiguous()}, folder / "answers.safetensors"
        )
    pq.write_table(
        pa.table(
            {
                "item_id": pa.array(model.catalogue.item_ids.tolist(), pa.string()),
                "title": pa.array(model.catalogue.titles, pa.string()),
                "text_digest": pa.array(model.text_digests, pa.string()),
                "trained": pa.array(model.items.trained.cpu().numpy()),
                "count": pa.array(model.popularity.counts),
            }
        ),
        folder / "items.parquet",
    )
    if model.collaborative is not None:
        csr = model.collaborative.weights
        safetensors.numpy.save_file(
            {
                "data": csr.data.astype(np.float32),
                "indices": csr.indices.astype(np.int64),
                "indptr": csr.indptr.astype(np.int64),
                "negative": np.array([model.collaborative.negative], dtype=np.float32),
            },
            folder / "collaborative.safetensors",
        )
        if model.collaborative.co_occurrences is not None:
            _save_co_occurrences(model.collaborative.co_occurrences, folder / CO_OCCURRENCES)
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
        "request_fusion": dict(model.request_fusion.weights),
        "collaborative": model.collaborative is not None,
        "libraries": {"torch": torch.__version__, "numpy": np.__version__},
        **manifest,
    }
    temporary = folder / f"{MANIFEST}.tmp"
    temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    temporary.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest.

    Raises
    ------
    CheckpointError
        When there is none or its format is of another version.
    """
    path = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no checkpoint: {path.name} cannot be read ({error})") from error
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"the checkpoint {folder} has format version {content.get('format_version')!r}, this code reads "
            f"{FORMAT_VERSION}; run a full fine-tune with this version"
        )
    return content


def load_recommender(folder: Path, device: str = "cpu", *, to_update: bool = False) -> Recommender:
    """Read a checkpoint on the catalogue it was saved with (ids and titles; texts by their digest).

    The base encoder is loaded only when a text must be encoded, but where it can be found without a
    network its digest is compared at once.

    Parameters
    ----------
    to_update
        Read also what only a micro-update needs.

    Raises
    ------
    CheckpointError
        When a file is missing or broken, or the format or the base encoder is another.
    """
    manifest = read_manifest(folder)
    encoder = EncoderIdentity(**manifest["base_encoder"])
    _check_local_encoder(encoder)
    try:
        items = pq.read_table(folder / "items.parquet")
        weights = safetensors.torch.load_file(folder / "weights.safetensors")
        vectors = safetensors.torch.load_file(folder / "text_vectors.safetensors")["text_vectors"]
        ids = safetensors.torch.load_file(folder / "item_ids.safetensors")["ids"]
        names = np.empty(items.num_rows, dtype=object)
        names[:] = items["item_id"].to_pylist()
        catalogue = Catalogue(
            item_ids=names,
            titles=items["title"].to_pylist(),
            texts=[""] * len(names),
            available=np.ones(len(names), dtype=bool),
            attributes=[{}] * len(names),
        )
        event_types = EventTypes.from_records(manifest["event_types"])
        model = Recommender(ModelSettings(**manifest["model"]), catalogue, event_types, encoder, vectors)
        own = {n: v for n, v in weights.items() if not n.startswith((_TEXT, _OLD_REQUESTS))}
        # Written before there were these parts: they stay as untrained as they are.
        untrained = {n: v for n, v in model.state_dict().items() if n.startswith((_COMMENTS, _REQUESTS))}
        model.load_state_dict(untrained | own | {"items.ids": ids})
        if (folder / "answers.safetensors").is_file():
            model.answers = safetensors.torch.load_file(folder / "answers.safetensors")["answers"]
        model.items.trained.copy_(torch.from_numpy(items["trained"].to_numpy(zero_copy_only=False)))
        model.popularity = Popularity(items["count"].to_numpy().astype(np.float32))
        if manifest["collaborative"]:
            model.collaborative = _load_collaborative(folder, len(names), to_update)
    except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"the checkpoint {folder} is incomplete or broken: {error}") from error
    model.text_digests = items["text_digest"].to_pylist()
    model.text_state = {
        name.removeprefix(_TEXT): value for name, value in weights.items() if name.startswith(_TEXT)
    }
    model.fusion = Fusion(manifest["fusion"])
    asked = manifest["request_fusion"]
    model.request_fusion = Fusion(asked if REQUEST in asked else REQUEST_WEIGHTS)
    model.seat_newcomers()
    return model.to(torch.device(device)).eval()


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
        (stored["data"].astype(np.float32), stored["indices"].astype(np.int64), stored["indptr"]),
        shape=(n_items, n_items),
    )


def _save_co_occurrences(found: CoOccurrences, path: Path) -> None:
    counts = found.counts
    tensors = {
        "data": counts.data.astype(np.min_scalar_type(int(counts.data.max(initial=0)))),
        "indices": counts.indices.astype(np.min_scalar_type(counts.shape[1])),
        "indptr": counts.indptr.astype(np.int64),
    }
    safetensors.numpy.save_file(tensors, path)
