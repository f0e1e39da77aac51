"""Cache the outputs of a text encoder's frozen layers by the text's content hash."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

import safetensors
import safetensors.torch
import torch
from torch import Tensor

_KEY_BYTES = 16


def text_digest(text: str) -> str:
    """Return the content hash of a text, the key of everything that is cached for it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[: 2 * _KEY_BYTES]


class FrozenOutputCache:
    """Half-precision outputs [tokens, width] by text digest, in memory and optionally in one file.

    Parameters
    ----------
    max_bytes
        Size limit. Outputs that do not fit are not cached and are computed again each time.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.max_bytes = max_bytes
        self._outputs: dict[str, Tensor] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._outputs)

    def get(self, digest: str) -> Tensor | None:
        """Return the cached output [tokens, width], or None."""
        return self._outputs.get(digest)

    def put(self, digest: str, output: Tensor) -> None:
        """Cache an output, unless the cache is full or half precision cannot represent it."""
        half = output.detach().to("cpu", torch.float16)
        size = half.numel() * half.element_size()
        if digest in self._outputs or self._bytes + size > self.max_bytes or not half.isfinite().all():
            return
        self._outputs[digest] = half
        self._bytes += size

    def take(self, digests: Iterable[str], other: "FrozenOutputCache") -> None:
        """Copy outputs that another cache of the same layers has."""
        for digest in digests:
            if (output := other.get(digest)) is not None:
                self.put(digest, output)

    def load(self, path: Path, wanted: Sequence[str]) -> None:
        """Read the outputs of the wanted digests from a file, if it exists."""
        if not path.is_file():
            return
        try:
            stored = safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError):
            return  # an unreadable cache is computed again
        lengths = stored["lengths"].tolist()
        keys = stored["digests"].numpy().tobytes()
        parts = torch.split(stored["outputs"], lengths)
        names = (keys[i : i + _KEY_BYTES].hex() for i in range(0, len(keys), _KEY_BYTES))
        needed = set(wanted)
        for name, part in zip(names, parts, strict=True):
            if name in needed:
                self.put(name, part.clone())

    def save(self, path: Path) -> None:
        """Write all outputs to a file atomically."""
        if not self._outputs:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        digests = torch.tensor(
            list(b"".join(bytes.fromhex(name) for name in self._outputs)), dtype=torch.uint8
        )
        temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")
        safetensors.torch.save_file(
            {
                "digests": digests,
                "lengths": torch.tensor([len(part) for part in self._outputs.values()]),
                "outputs": torch.cat(list(self._outputs.values())),
            },
            temporary,
        )
        temporary.replace(path)


class LatestOutputCache(FrozenOutputCache):
    """Forgets the outputs that were asked for longest ago when it is full, and counts what it finds.

    Attributes
    ----------
    hits, misses
        Texts whose outputs were, and were not, in the cache.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.hits = 0
        self.misses = 0

    def get(self, digest: str) -> Tensor | None:
        """Return the cached output [tokens, width], or None."""
        output = self._outputs.pop(digest, None)
        if output is None:
            self.misses += 1
            return None
        self.hits += 1
        self._outputs[digest] = output
        return output

    def put(self, digest: str, output: Tensor) -> None:
        """Cache an output in place of older ones."""
        size = 2 * output.numel()
        while self._outputs and size <= self.max_bytes < self._bytes + size:
            oldest = self._outputs.pop(next(iter(self._outputs)))
            self._bytes -= oldest.numel() * oldest.element_size()
        super().put(digest, output)
