"""Predict liking and ratings from a user vector and an item vector."""

from torch import Tensor, nn

from recsys.settings import ModelSettings


class FeedbackHead(nn.Module):
    """Predict whether a user will like an item, and the scaled value of a rating.

    Both are bilinear in the user vector and the item vector, with a separate map: what users consume next
    and what they like of it are different questions.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.user = nn.Linear(settings.dim, settings.dim)
        self.item_bias = nn.Linear(settings.dim, 1)
        self.rating = nn.Linear(1, 1)
        self.scale = settings.dim**-0.5

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return like logits [n] for pairs of users [n, dim] and items [n, dim]."""
        result: Tensor = (self.user(users) * items).sum(-1) * self.scale + self.item_bias(items).squeeze(-1)
        return result

    def query(self, users: Tensor) -> Tensor:
        """Return queries [users, dim]; times item vectors they are the like logits minus a constant."""
        result: Tensor = self.user(users) * self.scale + self.item_bias.weight
        return result

    def value(self, like_logits: Tensor) -> Tensor:
        """Return the expected scaled value [n] for like logits [n]."""
        result: Tensor = self.rating(like_logits.unsqueeze(-1)).squeeze(-1)
        return result
