"""Share one untrained text encoder among all models of a process."""

from functools import lru_cache

from recsys.model.base_encoder import EncoderIdentity, check_encoder, find_base_encoder
from recsys.model.text_cache import FrozenOutputCache, LatestOutputCache
from recsys.model.text_encoder import TextEncoder
from recsys.settings import ModelSettings

_COMMENT_CACHE_BYTES = 256 << 20
_REQUEST_CACHE_BYTES = 32 << 20
"""Enough for 40,000 requests with vectors of width 384."""


@lru_cache(maxsize=4)
def untrained_encoder(identity: EncoderIdentity, max_tokens: int, purpose: str) -> TextEncoder:
    """Load the untrained base encoder, once per process for all models that use it.

    Comments and requests are always read with the untrained encoder, so that what was learned about them
    stays valid while the text encoder is trained. Each purpose has a separate cache, because vectors of
    comments must never be in a cache that is written to disk.
    """
    base = find_base_encoder(identity.name)
    check_encoder(identity, base.sha256)
    settings = ModelSettings(base_encoder=identity.name, fine_tuning="frozen", max_text_tokens=max_tokens)
    if purpose == "requests":
        cache: FrozenOutputCache = LatestOutputCache(_REQUEST_CACHE_BYTES)
    elif purpose == "comments":
        cache = FrozenOutputCache(_COMMENT_CACHE_BYTES)
    else:
        cache = FrozenOutputCache()
    return TextEncoder(base, settings, cache, queries=purpose in ("requests", "comments"))
