"""What is read off a user vector besides the next item: liking and rating."""

from torch import Tensor, nn

from recsys.settings import ModelSettings


class FeedbackHead(nn.Module):
    """Predict whether a user will like an item, and the scaled value of a rating.

    Both are bilinear in user and item vector, through a small map of their own: what one consumes
    next and what one likes of it are different questions.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.user = nn.Linear(settings.dim, settings.dim)
        self.item_bias = nn.Linear(settings.dim, 1)
        self.rating = nn.Linear(1, 1)
        self.scale = settings.dim**-0.5

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return like logits [n] of pairs: users [n, dim], items [n, dim]."""
        result: Tensor = (self.user(users) * items).sum(-1) * self.scale + self.item_bias(items).squeeze(-1)
        return result

    def query(self, users: Tensor) -> Tensor:
        """Return [users, dim], whose products with item vectors are like logits but for a constant."""
        result: Tensor = self.user(users) * self.scale + self.item_bias.weight
        return result

    def value(self, like_logits: Tensor) -> Tensor:
        """Return the expected scaled value for like logits."""
        result: Tensor = self.rating(like_logits.unsqueeze(-1)).squeeze(-1)
        return result
