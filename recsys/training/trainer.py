"""The training loop of full fine-tunes and micro-updates: steps, schedule, text refresh, validation."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import TrainingError
from recsys.model.device import to_device
from recsys.model.events import EventBatch
from recsys.model.fusion import ndcg_of_ranks, target_ranks
from recsys.model.processes import processes
from recsys.model.recent import EventLog
from recsys.model.recommender import Recommender
from recsys.settings import TrainingSettings
from recsys.snapshot.catalogue import Catalogue
from recsys.training.batching import Batches
from recsys.training.objective import FreshText, Objective
from recsys.training.parallel import agree
from recsys.training.row_updates import RowUpdates
from recsys.training.split import ValidationCases

OnStep = Callable[[int, int, int], None]
"""Called with the epoch (from 0), the steps done in it, and its approximate number of steps."""

SCORES_IN_MEMORY = 1 << 25
"""Scores [cases, items] that validation holds at a time."""
WARMUP_SHARE = 0.05
"""Share of all steps in which the learning rate rises, unless the caller gives another."""
BETAS = (0.9, 0.98)
"""Decays of the moments of Adam."""
WEIGHT_DECAY = 0.01
"""Decay of the weight matrices, the default of AdamW in PyTorch."""
MIN_TEXTS = 5_000
"""Texts that may be encoded with gradient whatever the size of the catalogue."""
GRADIENT_CLIP = 1.0
"""Largest norm of the gradient: one unusual batch must not undo earlier steps."""


class Trainer:
    """Trains a recommender epoch by epoch.

    With several processes (torchrun), each process takes every n-th user of a batch and encodes every n-th
    text. Losses are divided by the counts of all processes and gradients are summed, so that the result is
    that of one process, except for dropout.

    Parameters
    ----------
    settings
        Epochs, learning rates, text training, gradient accumulation, weight averaging and seed.
    warmup_share
        Share of all steps in which the learning rate rises.
    """

    def __init__(
        self,
        model: Recommender,
        objective: Objective,
        batches: Batches,
        settings: TrainingSettings,
        *,
        warmup_share: float = WARMUP_SHARE,
    ) -> None:
        self.model = model
        self.objective = objective
        self.batches = batches
        self.settings = settings
        self.warmup_share = warmup_share
        self.rank, self.world = processes()
        self.steps_per_epoch = max(1, batches.steps())
        self.total_steps = self.steps_per_epoch * settings.epochs // settings.gradient_accumulation + 1
        self.step = 0
        self.on_step: OnStep = lambda _epoch, _done, _steps: None
        self._rng = np.random.default_rng((settings.seed, 2))
        text = model.text
        self.text_parameters = (
            [p for p in text.parameters() if p.requires_grad]
            if text is not None and settings.text_items_per_step and settings.text_learning_rate
            else []
        )
        text_ids = {id(p) for p in text.parameters()} if text is not None else set()
        self.text_interval = text_interval(settings, self.steps_per_epoch, len(model.catalogue))
        """Every how many steps texts are encoded with gradient."""
        self.own_parameters = [p for p in model.parameters() if id(p) not in text_ids and p.requires_grad]
        averages = settings.weight_averaging > 0
        self.rows: RowUpdates | None = None
        if objective.sampled:
            # A step uses a few of many items.
            self.rows = RowUpdates(model.items.ids, betas=BETAS, weight_decay=WEIGHT_DECAY, averages=averages)
            self.own_parameters = [p for p in self.own_parameters if p is not model.items.ids]
        matrices = [p for p in self.own_parameters if p.ndim > 1]
        vectors = [p for p in self.own_parameters if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": WEIGHT_DECAY, "lr": settings.learning_rate},
            {"params": vectors, "weight_decay": 0.0, "lr": settings.learning_rate},
        ]
        if self.text_parameters:
            text_group = {"params": self.text_parameters, "weight_decay": WEIGHT_DECAY}
            groups.append(text_group | {"lr": settings.text_learning_rate})
        for group in groups:
            group["peak"] = group["lr"]
        self.optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
        self.average = [p.detach().clone() for p in self.own_parameters] if averages else []

    def train_epoch(self, epoch: int, out_of_time: Callable[[], bool] = lambda: False) -> dict[str, float]:
        """Train one epoch and return the mean of each loss and the learning rate.

        Raises
        ------
        TrainingError
            The loss is not a finite number.
        """
        self.model.train()
        trains_text = bool(self.text_parameters) and epoch < self.settings.text_epochs
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for number, (batch, beginnings) in enumerate(self.batches.epoch(epoch)):
            moved = batch.to(self.model.device)
            fresh = self._fresh_text(batch) if trains_text and number % self.text_interval == 0 else None
            part, part_beginnings = self._part_of_process(moved, to_device(beginnings, self.model.device))
            losses = self.objective(part, part_beginnings, fresh)
            loss = self._total(losses, sums, counts)
            if not math.isfinite(float(loss.detach())):
                raise TrainingError(
                    f"the loss became {float(loss.detach())} in epoch {epoch + 1}, step {number + 1}; lower "
                    "RECSYS_TRAINING__LEARNING_RATE and RECSYS_TRAINING__TEXT_LEARNING_RATE (now "
                    f"{self.settings.learning_rate:g} and {self.settings.text_learning_rate:g})"
                )
            (loss / self.settings.gradient_accumulation).backward()  # type: ignore[no-untyped-call]
            if fresh is not None:
                self.model.text_vectors[fresh.items] = fresh.vectors.detach().to(self.model.text_vectors)
            if (number + 1) % self.settings.gradient_accumulation == 0:
                self._update()
            self.on_step(epoch, number + 1, self.steps_per_epoch)
            if out_of_time():
                break
        if trains_text:
            self.refresh_text()
        if self.rows is not None:
            self.rows.settle()
        means = {name: sums[name] / max(counts[name], 1e-9) for name in sums}
        return means | {"learning_rate": self.optimizer.param_groups[0]["lr"]}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the moving average of the weights, which is less noisy than the last step and ranks better."""
        if not self.average:
            yield
            return
        weights, averages = [p.detach() for p in self.own_parameters], self.average
        if self.rows is not None and self.rows.average is not None:
            weights, averages = [*weights, self.rows.table], [*averages, self.rows.average]
        last = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, averages)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, last)

    def refresh_text(self) -> None:
        """Encode the whole catalogue again, because the text encoder has changed."""
        texts = self.model.catalogue.texts
        self.model.text_vectors.copy_(self.model.text_encoder().encode(texts, divided=True))

    def _fresh_text(self, batch: EventBatch) -> FreshText:
        targets = np.unique(batch.item[batch.mask & (batch.weight > 0)].numpy())
        count = min(self.settings.text_items_per_step, len(targets))
        chosen = np.sort(self._rng.choice(targets, count, replace=False))
        texts = [self.model.catalogue.texts[i] for i in chosen]
        vectors = self.model.text_encoder().encode_with_gradient(texts, divided=True)
        return FreshText(to_device(chosen, self.model.device), vectors)

    def _part_of_process(self, batch: EventBatch, beginnings: Tensor) -> tuple[EventBatch, Tensor]:
        if self.world == 1:
            return batch, beginnings
        part = slice(self.rank, None, self.world)
        return EventBatch(**{name: value[part] for name, value in vars(batch).items()}), beginnings[part]

    def _total(
        self, losses: dict[str, tuple[Tensor, Tensor]], sums: dict[str, float], counts: dict[str, float]
    ) -> Tensor:
        """Return the weighted loss of this process, divided by the counts of all processes."""
        names = list(losses)
        numbers = torch.stack([torch.stack([losses[name][0].detach(), losses[name][1]]) for name in names])
        if self.world > 1:
            torch.distributed.all_reduce(numbers)
        total = torch.zeros((), device=self.model.device)
        for name, (value, count) in zip(names, numbers.tolist(), strict=True):
            total = total + getattr(self.objective.weights, name) / max(count, 1e-6) * losses[name][0]
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0.0) + count
        return total

    def _update(self) -> None:
        parameters = [*self.own_parameters, *self.text_parameters]
        if self.world > 1:
            _sum_gradients(parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        of_rows = self._gradient_of_rows()
        if of_rows is not None:
            gradients.append(of_rows.values())
        norm = nn.utils.get_total_norm(gradients)
        torch._foreach_mul_(gradients, (GRADIENT_CLIP / (norm + 1e-6)).clamp(max=1.0))
        scale = schedule(self.step, self.total_steps, self.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * scale
        self.optimizer.step()
        self.step += 1
        # The average follows quickly at first, while the weights are still close to random.
        decay = min(self.settings.weight_averaging, (1 + self.step) / (10 + self.step))
        if of_rows is not None and self.rows is not None:
            rate = self.settings.learning_rate * scale
            self.rows.update(of_rows.indices()[0], of_rows.values(), self.step, rate, decay)
        self.optimizer.zero_grad(set_to_none=True)
        self.model.items.ids.grad = None
        if self.average:
            torch._foreach_lerp_(self.average, [p.detach() for p in self.own_parameters], 1 - decay)

    def _gradient_of_rows(self) -> Tensor | None:
        """Return the sparse gradient of the id vectors, of all processes; None if it is in Adam's hands."""
        if self.rows is None:
            return None
        gradient = self.model.items.ids.grad
        if gradient is None:
            gradient = torch.zeros_like(self.rows.table).to_sparse(1)
        gradient = gradient.coalesce()
        return gradient if self.world == 1 else _sum_of_rows(gradient)


def text_interval(settings: TrainingSettings, steps_per_epoch: int, n_items: int) -> int:
    """Return every how many steps texts are encoded with gradient.

    Their number then follows the catalogue. In every step, it would follow the number of users.
    """
    steps = steps_per_epoch * min(settings.text_epochs, settings.epochs)
    allowed = max(MIN_TEXTS, settings.text_passes * n_items)
    return max(1, math.ceil(steps * settings.text_items_per_step / allowed))


def schedule(step: int, total: int, warmup_share: float) -> float:
    """Return the share of the peak learning rate: linear warm-up, then cosine decay to a tenth."""
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Validator:
    """Full rankings of validation cases.

    Attributes
    ----------
    cases
        The validation cases.
    allowed
        [items] items that are ranked.
    k
        Cut-off of NDCG.
    log
        For cases before the end of the model's training: what was chosen when, for recent popularity.
    catalogue
        Times at which items were available. Default: those of the model's catalogue.
    """

    cases: ValidationCases
    allowed: NDArray[np.bool_]
    k: int
    log: EventLog | None = None
    catalogue: Catalogue | None = None

    @classmethod
    def build(
        cls,
        cases: ValidationCases,
        model: Recommender,
        k: int,
        log: EventLog | None = None,
        catalogue: Catalogue | None = None,
    ) -> "Validator":
        """Rank the trained items that are not off the user's list."""
        return cls(cases, model.items.trained.cpu().numpy().copy(), k, log, catalogue)

    def ndcg(self, model: Recommender) -> float:
        """Return NDCG@k of the neural part, or 0 if there are no cases."""
        return float(ndcg_of_ranks(self.ranks(model), self.k).mean()) if len(self.cases) else 0.0

    def ranks(self, model: Recommender) -> NDArray[np.int64]:
        """Return the rank [cases] of each target by the neural part."""
        users, items = model.user_vectors(self.cases.histories), model.item_vectors()
        return self._ranks(model, lambda rows: users[rows] @ items.T)

    def served_ranks(self, model: Recommender) -> NDArray[np.int64]:
        """Return the rank [cases] of each target by all parts of the score, as users would see it."""
        if not len(self.cases):  # a scorer reads the whole catalogue
            return np.zeros(0, dtype=np.int64)
        scorer = model.scorer(self.log)

        def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            histories = self.cases.histories.take_users(rows)
            return scorer.score(scorer.user_vectors(histories), histories).cpu().numpy()

        return self._ranks(model, scores)

    def _ranks(
        self, model: Recommender, scores: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    ) -> NDArray[np.int64]:
        """Rank block by block: memory does not grow with cases times items."""
        catalogue = model.catalogue if self.catalogue is None else self.catalogue
        n_items = len(catalogue)
        step = max(1, SCORES_IN_MEMORY // n_items)
        ranks = [np.zeros(0, dtype=np.int64)]
        for first in range(0, len(self.cases), step):
            rows = np.arange(first, min(first + step, len(self.cases)))
            block = self.cases.take(rows)
            excluded = block.excluded(n_items, self.allowed, catalogue)
            ranks.append(target_ranks(scores(rows), block.targets, excluded))
        return np.concatenate(ranks)


def _sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Sum gradients over processes in one message; a missing gradient counts as zero."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    torch.distributed.all_reduce(flat)
    for parameter, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


def _sum_of_rows(gradient: Tensor) -> Tensor:
    """Sum a sparse gradient over processes."""
    rows, values = gradient.indices()[0], gradient.values()
    world = torch.distributed.get_world_size()
    counts = [torch.zeros((), dtype=torch.long, device=rows.device) for _ in range(world)]
    torch.distributed.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    most = int(torch.stack(counts).max())
    padding = most - len(rows)
    # Rows beyond the end of a process's own add 0 to row 0.
    all_rows = rows.new_zeros(world, most)
    all_values = values.new_zeros(world, most, values.shape[1])
    torch.distributed.all_gather(list(all_rows), functional.pad(rows, (0, padding)))
    torch.distributed.all_gather(list(all_values), functional.pad(values, (0, 0, 0, padding)))
    return torch.sparse_coo_tensor(
        all_rows.reshape(1, -1), all_values.flatten(0, 1), gradient.shape, check_invariants=False
    ).coalesce()


def time_limit(minutes: float | None, start: float) -> Callable[[], bool]:
    """Return a function that says whether `minutes` have passed since `start`; None never passes.

    All processes of a run call it together, and the clock of the first one decides.

    Parameters
    ----------
    start
        Start of the run in seconds, from `time.monotonic()`.
    """
    if minutes is None:
        return lambda: False
    return lambda: bool(agree(time.monotonic() - start > 60 * minutes))
