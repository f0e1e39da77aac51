"""Settings of what is published and served."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from recsys.settings.section import CENTURY_DAYS, Section


class ExplorationSettings(Section):
    """Exploration: lists drawn at random around the ranking, so that their logs can evaluate other models."""

    share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of lists that are drawn at random (0 to 1); 0 turns exploration off",
    )
    temperature: float = Field(
        0.3,
        ge=0.1,
        le=10,
        description="spread of drawn lists (no unit): rank r has odds r ** (-1 / temperature); lower values "
        "stay closer to the ranking",
    )


class VisitorListSettings(Section):
    """Which visitors (sessions without a user) get published lists."""

    days: int = Field(7, ge=1, le=CENTURY_DAYS, description="age of the events that count, in days")
    min_events: int = Field(2, ge=1, description="events of that age without which a visitor gets no list")


class PublishingSettings(Section):
    """Batch scoring."""

    k: int = Field(20, ge=1, description="length of a published list, in items")
    pool: int = Field(
        200,
        ge=1,
        le=1000,
        description="items stored for each user, from which filters, rules and the latest reactions choose "
        "when a list is read; at least k are stored",
    )
    similar_items: int = Field(
        200_000,
        ge=0,
        description="items up to which publishing lists what is similar to each, in a time that grows with "
        "the square of their number; in larger catalogues serving.similar_items looks through all vectors",
    )
    comments_read: int = Field(
        20_000,
        ge=0,
        description="comments read per publication to predict the sentiment about items; 0 turns it off, "
        "and phrases in comments too",
    )
    diversity: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="weight of variety against score in a list (0 to 1); 0 ranks by score alone",
    )
    everyone_hours: float | None = Field(
        None,
        gt=0,
        le=24 * CENTURY_DAYS,
        description="hours after which the next hourly run of publish_recommendations gives all users new "
        "lists, whatever the gate decided; null: a quarter of the half-life of what is trending, if the "
        "champion found one of a day or less, otherwise 25",
    )
    refresh_minutes: Literal[2, 5, 10, 15, 20, 30] | None = Field(
        10,
        description="minutes between runs of refresh_active_users; null: only by hand",
    )
    users_per_shard: int = Field(
        100_000,
        ge=1,
        description="users that one task scores and stages in publish_recommendations; with more there are "
        "several tasks, for as many workers. Rounded down to whole batches of 1,024",
    )
    queue: Literal["default", "gpu"] = Field(
        "default", description="queue of the tasks that score shards: default, or gpu for workers with a GPU"
    )
    exploration: ExplorationSettings = ExplorationSettings()
    visitors: VisitorListSettings = VisitorListSettings()


class ServingSettings(Section):
    """Lists for everybody, for users without a list of their own."""

    trending_days: float = Field(
        7.0,
        gt=0,
        le=3650,
        description="days of feedback that say what is trending; an event counts half after a quarter, or "
        "after the half-life with which the champion tells best what is wanted next, if that is shorter",
    )
    segment_attribute: str = Field(
        "",
        description="attribute of users by whose value trending and popular lists are made as well, such as "
        "country; empty: none",
    )
    api_keys: tuple[Annotated[SecretStr, Field(min_length=16)], ...] = Field(
        (), description="keys that applications present to `recsys serve`, as a JSON list"
    )


class SummarySettings(Section):
    """Texts that a language model writes about lists and items, after they are published."""

    writer: str = Field(
        "",
        description="who writes: a folder with a causal model in safetensors, a GGUF file, or the address of "
        "an endpoint that speaks the chat API, such as http://host:8000/v1; empty: nobody, templates answer",
    )
    model: str = Field("", description="name of the model, stored with each text and sent to the endpoint")
    licence: str = Field("", description="licence of the model, stored with each text")
    api_key: SecretStr | None = Field(None, description="key of the endpoint")
    minutes: float = Field(20.0, gt=0, le=240, description="minutes after which a run writes no further text")

    @model_validator(mode="after")
    def _names_its_model(self) -> Self:
        if self.writer and not (self.model and self.licence):
            raise ValueError(
                "RECSYS_SUMMARIES__WRITER is set: say who writes with RECSYS_SUMMARIES__MODEL and "
                "RECSYS_SUMMARIES__LICENCE, which are stored with each text"
            )
        return self
