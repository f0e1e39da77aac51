"""How much a user's reactions since their list was published count; read by `serving.live_ranking`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LiveInterest:
    """Weights of live interest; the defaults were chosen on MovieLens-100K.

    Attributes
    ----------
    strength
        By how much a standard deviation of what goes with the latest reactions outweighs the logarithm of the
        published place.
    decay
        Weight of a reaction as a share of that of the next newer one, 0 to 1.
    trending
        Odds of the first trending item as a share of those of the first published one; 0: trending items do
        not come in.
    trending_half_life_days
        Days after which a reaction counts half for what is trending; None: as serving has it.
    trending_before_reaction
        What `trending` is for a user who has not reacted since their list was published.
    """

    strength: float = 3.0
    decay: float = 0.7
    trending: float = 0.0
    trending_half_life_days: float | None = None
    trending_before_reaction: float = 0.0
