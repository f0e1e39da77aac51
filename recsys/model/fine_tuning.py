"""Choose which weights of a text encoder are trained, and run its frozen layers no more than once a text."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from recsys.settings import ModelSettings


def choose_trained(transformer: nn.Module, layers: nn.ModuleList, settings: ModelSettings) -> int:
    """Mark the weights that are trained and return the number of frozen first layers."""
    transformer.requires_grad_(False)
    if settings.fine_tuning == "frozen":
        return len(layers)
    if settings.fine_tuning == "full":
        transformer.requires_grad_(True)
        return 0
    if settings.fine_tuning == "lora":
        import peft

        adapters = peft.LoraConfig(
            r=settings.lora_rank,
            lora_alpha=2 * settings.lora_rank,
            lora_dropout=0.0,
            target_modules="all-linear",
        )
        peft.inject_adapter_in_model(adapters, transformer)
        return 0
    top = min(settings.trainable_top_layers, len(layers))
    for layer in layers[len(layers) - top :]:
        layer.requires_grad_(True)
    return len(layers) - top


class FrozenLayers:
    """The frozen first layers of a transformer, whose output is captured, or given instead of computed.

    The rest of the model runs unchanged, so that its own code computes masks and position biases.

    Attributes
    ----------
    number
        How many layers are frozen.
    """

    def __init__(self, layers: nn.ModuleList, number: int) -> None:
        self.number = number
        self._given: Tensor | None = None
        self._captured: Tensor | None = None
        self._others: int | None = None
        for place, layer in enumerate(layers[:number]):
            layer.forward = partial(self._run, layer.forward, place)

    @contextmanager
    def given(self, output: Tensor | None) -> Iterator[None]:
        """Let the model use this output [batch, tokens, width]; None: compute it."""
        self._given = output
        try:
            yield
        finally:
            self._given = None

    def take(self) -> Tensor:
        """Return the latest output [batch, tokens, width] that was computed, and keep it no longer."""
        captured, self._captured = self._captured, None
        assert captured is not None
        return captured.detach()

    def _run(
        self, original: Callable[..., Any], place: int, hidden: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        if self._given is not None:
            return self._given if self._others is None else (self._given, *[None] * self._others)
        output = original(hidden, *args, **kwargs)
        if place == self.number - 1:
            self._others = len(output) - 1 if isinstance(output, tuple) else None
            self._captured = output[0] if isinstance(output, tuple) else output
        return output
