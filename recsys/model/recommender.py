"""The recommender: item vectors, user vectors, and everything their scores are computed from."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.errors import CheckpointError, ConfigurationError
from recsys.memory import require_memory, serving_bytes, training_bytes
from recsys.model.appeal import Appeal
from recsys.model.base_encoder import EncoderIdentity, check_encoder, find_base_encoder
from recsys.model.cold_items import find_proxies
from recsys.model.collaborative import EASE, Popularity
from recsys.model.comments import CommentReader
from recsys.model.events import EventBatch, batches_of_events, collate, time_gaps
from recsys.model.fusion import REQUEST_WEIGHTS, Fusion
from recsys.model.heads import FeedbackHead
from recsys.model.item_age import ItemAges
from recsys.model.item_encoder import ItemEncoder
from recsys.model.item_numbers import ItemNumbers
from recsys.model.live_interest import LiveInterest
from recsys.model.recent import EventLog, RecentPopularity
from recsys.model.requests import RequestMatcher
from recsys.model.scoring import CatalogueScorer
from recsys.model.succession import Succession
from recsys.model.text_cache import text_digest
from recsys.model.text_encoder import TextEncoder
from recsys.model.user_encoder import UserEncoder
from recsys.settings import ModelSettings
from recsys.snapshot.event_types import EventTypes
from recsys.snapshot.sequences import Catalogue, Sequences

EVENTS_PER_BATCH = {"cpu": 4_096}
"""Places for events in a padded batch, by kind of device. A core keeps so many in its cache; a GPU is far
faster with large batches."""
_EVENTS_PER_BATCH = 65_536
_LEAST_USERS = 16


class Recommender(nn.Module):
    """Scores every item of a catalogue for users, given the users' events.

    Build one with `Recommender.build`, or read a checkpoint with `recsys.model.checkpoint`. Then call
    `with_catalogue` to move it to the current catalogue. `item_index` in histories always refers to
    `self.catalogue`.

    Attributes
    ----------
    text_vectors
        [items, text width] vectors of the items' texts.
    request_vectors
        [items, text width] vectors that requests are matched with. None after loading a checkpoint that was
        written before models answered requests.
    """

    text_vectors: Tensor
    request_vectors: Tensor | None
    _proxies: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        catalogue: Catalogue,
        event_types: EventTypes,
        encoder: EncoderIdentity,
        text_vectors: Tensor,
        numbers: ItemNumbers | None = None,
        text_digests: list[str] | None = None,
    ) -> None:
        super().__init__()
        if len(catalogue) == 0:
            raise ConfigurationError("a recommender needs at least one item; the catalogue is empty")
        if settings.dim % settings.heads:
            raise ConfigurationError(
                f"RECSYS_MODEL__DIM={settings.dim} must be a multiple of RECSYS_MODEL__HEADS={settings.heads}"
            )
        self.settings = settings
        self.catalogue = catalogue
        self.event_types = event_types
        self.encoder = encoder
        self.numbers = numbers or ItemNumbers({})
        self.items = ItemEncoder(settings, encoder.width, len(catalogue), self.numbers.width)
        self.items.numbers.copy_(torch.from_numpy(self.numbers.features(catalogue.attributes)))
        self.users = UserEncoder(settings, len(event_types))
        self.feedback = FeedbackHead(settings)
        self.requests = RequestMatcher(encoder, settings)
        self.comments = CommentReader(encoder)
        self.register_buffer("text_vectors", text_vectors, persistent=False)
        self.register_buffer("_proxies", torch.arange(len(catalogue)), persistent=False)
        self._proxies_are_known = False
        self.register_buffer("request_vectors", None, persistent=False)
        self.text_digests = text_digests or [text_digest(text) for text in catalogue.texts]
        self.text: TextEncoder | None = None
        self.text_state: dict[str, Tensor] = {}
        self.fusion = Fusion()
        self.returning_fusion = Fusion()
        self.request_fusion = Fusion(REQUEST_WEIGHTS)
        self.live_interest = LiveInterest()
        self.collaborative: EASE | None = None
        self.succession: Succession | None = None
        self.popularity = Popularity(np.zeros(len(catalogue), dtype=np.float32))
        self.recent: RecentPopularity | None = None
        self.ages: ItemAges | None = None
        self.appeal: Appeal | None = None

    @classmethod
    def build(
        cls,
        settings: ModelSettings,
        catalogue: Catalogue,
        event_types: EventTypes,
        *,
        device: torch.device | None = None,
        cache_folder: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> "Recommender":
        """Build an untrained recommender on a pre-trained text encoder; encodes the catalogue once.

        The processes of a training run call it at the same time and divide the texts.

        Parameters
        ----------
        settings, catalogue, event_types
            The architecture, the items and the kinds of events.
        device
            Device of the model, which also encodes the catalogue; default: the CPU.
        cache_folder
            Folder for the outputs of frozen layers. Later runs read unchanged texts from it.
        progress
            Called with the number of texts encoded so far and their total number.

        Raises
        ------
        ConfigurationError
            The base encoder cannot be found, or the catalogue is empty or does not fit in memory.
        """
        text = TextEncoder(find_base_encoder(settings.base_encoder), settings)
        numbers = ItemNumbers.find(catalogue.attributes)
        identity = EncoderIdentity(settings.base_encoder, text.base.sha256, text.width)
        require_memory(
            f"training on {len(catalogue)} items",
            training_bytes(len(catalogue), settings.dim, text.width + numbers.width),
            "choose a smaller RECSYS_MODEL__DIM, a base encoder with narrower vectors or fewer items",
        )
        text.to(device)
        with text.cached_in(cache_folder, catalogue.texts):
            vectors = text.encode(catalogue.texts, progress, divided=True)
        model = cls(settings, catalogue, event_types, identity, vectors, numbers).to(device)
        model.text = text
        phrases_folder = cache_folder / "phrases" if cache_folder else None
        model.request_vectors = model.requests.read_catalogue(catalogue, phrases_folder, text)
        return model

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.items.ids.device

    def text_encoder(self) -> TextEncoder:
        """Return the text encoder; the first call loads it.

        Raises
        ------
        CheckpointError
            The base encoder found now is not the one the model was trained with.
        """
        if self.text is None:
            base = find_base_encoder(self.encoder.name)
            check_encoder(self.encoder, base.sha256)
            text = TextEncoder(base, self.settings)
            text.load_trained_state(self.text_state)
            self.text = text.to(self.device)
        return self.text

    def with_catalogue(self, catalogue: Catalogue) -> "Recommender":
        """Return the same recommender on another catalogue; items are matched by id.

        New items and items with a changed text are encoded, removed items are dropped, and all other items
        keep what was learned about them.
        """
        own = self.catalogue.index
        source = np.fromiter((own.get(i, -1) for i in catalogue.item_ids), np.int64, len(catalogue))
        digests = [text_digest(text) for text in catalogue.texts]
        changed = [
            row
            for row, (old, digest) in enumerate(zip(source, digests, strict=True))
            if old < 0 or self.text_digests[old] != digest
        ]
        vectors = self.text_vectors[torch.from_numpy(source.clip(min=0))]
        if changed:
            fresh = self.text_encoder().encode([catalogue.texts[row] for row in changed])
            vectors[changed] = fresh.to(vectors)
        moved = Recommender(
            self.settings, catalogue, self.event_types, self.encoder, vectors, self.numbers, digests
        )
        moved.to(self.device)
        moved.load_state_dict(
            {n: v for n, v in self.state_dict().items() if n != "items.ids" and not n.startswith("text.")},
            strict=False,
        )
        moved.request_vectors = self._moved_request_vectors(catalogue, source, changed)
        kept = torch.from_numpy(source >= 0)
        rows = torch.from_numpy(source[source >= 0])
        with torch.no_grad():
            moved.items.ids.zero_()
            moved.items.ids[kept] = self.items.ids[rows]
        moved.items.trained[kept] = self.items.trained[rows]
        positions = np.full(len(self.catalogue), -1, dtype=np.int64)
        positions[source[source >= 0]] = np.flatnonzero(source >= 0)
        if self.collaborative is not None:
            moved.collaborative = self.collaborative.aligned(positions, len(catalogue))
        if self.succession is not None:
            moved.succession = self.succession.aligned(positions, len(catalogue))
        moved.popularity = self.popularity.aligned(positions, len(catalogue))
        if self.recent is not None:
            moved.recent = self.recent.aligned(positions, len(catalogue))
        if self.ages is not None:
            moved.ages = self.ages.aligned(positions, len(catalogue))
        if self.appeal is not None:
            moved.appeal = self.appeal.aligned(positions, len(catalogue))
        moved.text, moved.text_state = self.text, self.text_state
        moved.fusion, moved.request_fusion = self.fusion, self.request_fusion
        moved.returning_fusion = self.returning_fusion
        moved.live_interest = self.live_interest
        if self._proxies_are_known:
            carried = positions[self._proxies.cpu().numpy()[source]]
            moved.keep_proxies(np.where(source < 0, -1, carried), changed)
        return moved.train(self.training)

    def with_event_types(self, event_types: EventTypes) -> "Recommender":
        """Return the same recommender for other event types, which are matched by name.

        The vector of a new type is the mean of the known types with the same role, or of all.
        """
        if event_types.names == self.event_types.names:
            return self
        moved = copy.copy(self)
        moved._modules = dict(self._modules)
        moved.event_types = event_types
        moved.users = self.users.with_event_types(self.event_types, event_types)
        return moved

    def _moved_request_vectors(
        self, catalogue: Catalogue, source: NDArray[np.int64], changed: list[int]
    ) -> Tensor | None:
        if self.request_vectors is None:
            return None  # an older checkpoint: `match_requests` encodes them when the first request comes
        vectors = self.request_vectors[torch.from_numpy(source.clip(min=0))]
        if changed:
            vectors[changed] = self.requests.item_vectors(catalogue.take(changed))
        return vectors

    @torch.no_grad()
    def match_requests(self, requests: list[str]) -> Tensor:
        """Return how well each item matches each request: logits [requests, items].

        Raises
        ------
        CheckpointError
            The checkpoint holds no request vectors and no item texts to encode them from.
        """
        if self.request_vectors is None and any(self.catalogue.texts):
            self.request_vectors = self.requests.item_vectors(self.catalogue)
        if self.request_vectors is None:
            raise CheckpointError(
                "the checkpoint was written before models answered requests: move it to its catalogue with "
                "with_catalogue, or run a full fine-tune"
            )
        result: Tensor = self.requests(self.requests.encode_requests(requests), self.request_vectors)
        return result

    def request_cache(self) -> tuple[int, int]:
        """Return how many requests had their vectors in memory, and how many were encoded."""
        return self.requests.request_cache()

    @torch.no_grad()
    def update_proxies(self) -> None:
        """Choose the proxies of cold items again; call it after weights, counts or texts changed."""
        self.keep_proxies(np.full(len(self.catalogue), -1, dtype=np.int64))

    @torch.no_grad()
    def keep_proxies(self, proxies: NDArray[np.int64], changed: Sequence[int] = ()) -> None:
        """Take proxies [items] from elsewhere; choose those of changed items again, and where it is -1."""
        kept = torch.from_numpy(proxies).to(self.device)
        kept[list(changed)] = -1
        wanted = kept < 0
        if wanted.any():
            parts = self.items.from_text(self.text_vectors)
            counts = torch.from_numpy(self.popularity.counts).to(self.device)
            kept = torch.where(wanted, find_proxies(parts, counts, wanted), kept)
        self._proxies.copy_(kept)
        self._proxies_are_known = True

    @property
    def proxies(self) -> Tensor:
        """Position [items] of each item's proxy; see `recsys.model.cold_items`."""
        if not self._proxies_are_known:
            self.update_proxies()
        return self._proxies

    def clone(self) -> "Recommender":
        """Copy the weights; share the catalogue, the text encoder, and the vectors of texts and answers."""
        shared = (
            self.text, self.text_vectors, self.text_digests, self.catalogue, self.event_types,
            self.collaborative, self.succession, self.request_vectors,
        )  # fmt: skip
        return copy.deepcopy(self, {id(o): o for o in shared})

    def read_comments(self, histories: Sequences) -> Sequences:
        """Fill in value and sentiment from comments where an event has neither; scores use these events."""
        return self.comments.read(histories)

    def comment_opinions(self, texts: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int8]] | None:
        """Return values (0 to 1, or nan) and sentiments [texts]; None if the reader is untrained."""
        return self.comments.opinions(texts) if self.comments.reads else None

    @torch.no_grad()
    def item_vectors(self) -> NDArray[np.float32]:
        """Return the vectors [items, dim] of the whole catalogue."""
        return self.item_table().cpu().numpy()

    def item_table(self) -> Tensor:
        """Return all item vectors [items, dim]; an untrained item uses the id vector of its proxy."""
        training = self.items.training
        self.items.eval()
        try:
            table: Tensor = self.items(self.text_vectors, proxies=self.proxies)
        finally:
            self.items.train(training)
        return table

    def encode_events(self, events: EventBatch, item_table: Tensor) -> Tensor:
        """Return user vectors [users, length + 1, dim]: before the first event and after each event."""
        result: Tensor = self.users(events, nn.functional.embedding(events.item, item_table))
        return result

    @torch.no_grad()
    def user_vectors(self, histories: Sequences) -> NDArray[np.float32]:
        """Return user vectors [users, dim] after the users' latest events.

        Parameters
        ----------
        histories
            Any length, also empty; the latest `max_events` events of each user are read.
        """
        return self.encode_users(histories, self.item_table()).cpu().numpy()

    @torch.no_grad()
    def encode_users(self, histories: Sequences, item_table: Tensor) -> Tensor:
        """Return user vectors [users, dim] for a given item table [items, dim]; see `user_vectors`."""
        self._check_items(histories)
        histories = self.read_comments(histories)
        training = self.training
        self.eval()
        gaps = time_gaps(histories)
        starts = np.maximum(histories.offsets[:-1], histories.offsets[1:] - self.settings.max_events)
        lengths = histories.offsets[1:] - starts
        result = torch.empty(histories.users, self.settings.dim, device=self.device)
        for rows in batches_of_events(lengths, EVENTS_PER_BATCH.get(self.device.type, _EVENTS_PER_BATCH)):
            # Products of a few rows have other last digits with another number of threads.
            filled = np.resize(rows, max(len(rows), _LEAST_USERS))
            events = collate(histories, gaps, starts[filled], histories.offsets[1:][filled]).to(self.device)
            vectors = self.users.last(events, nn.functional.embedding(events.item, item_table))
            result[torch.from_numpy(rows).to(self.device)] = vectors[: len(rows)]
        self.train(training)
        return result

    def _check_items(self, histories: Sequences) -> None:
        if histories.events and int(histories.item_index.max()) >= len(self.catalogue):
            raise CheckpointError(
                f"the histories refer to item {int(histories.item_index.max())}, but the catalogue has "
                f"{len(self.catalogue)} items; move the recommender to the histories' catalogue with "
                "with_catalogue"
            )

    def serving_bytes(self, items: int) -> dict[str, int]:
        """Return the memory in bytes that this model needs for a catalogue of `items`, by purpose."""
        needed = serving_bytes(items, self.settings.dim, self.encoder.width + self.numbers.width)
        if self.collaborative is not None:
            # Of the checkpoint, of the catalogue, and with the scores of proxies: a value and an index.
            needed["collaborative filtering"] = 3 * 8 * int(self.collaborative.weights.nnz)
        if self.succession is not None:
            needed["what follows what"] = 3 * 8 * int(self.succession.counts.nnz)
        return needed

    def scorer(self, later: EventLog | None = None) -> CatalogueScorer:
        """Return a scorer of the current weights for many batches of users; see `CatalogueScorer`."""
        return CatalogueScorer(self, later)

    def score(self, histories: Sequences, requests: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Return fused scores [users, items]; consumed items are not masked (see `ranking`).

        Parameters
        ----------
        histories
            Events of the users.
        requests
            [users] requests in natural language; an empty string is no request.
        """
        scorer = self.scorer()
        return scorer.score(scorer.user_vectors(histories), histories, requests).cpu().numpy()

    def parts(
        self, histories: Sequences, requests: Sequence[str] | None = None, later: EventLog | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Return the parts of the score by name, [users, items] each, before they are weighted.

        Repeats are not among them; see `recsys.model.repeats`.
        """
        scorer = self.scorer(later)
        parts = scorer.parts(scorer.user_vectors(histories), histories, requests)
        return {name: part.cpu().numpy() for name, part in parts.items()}
