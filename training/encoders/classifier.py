"""A classifier: an encoder, layers of its projector and a linear head."""

from jaxtyping import Float
from torch import Tensor, nn


class Classifier(nn.Module):
    """An encoder, layers of its projector and a linear head, from items to logits (b, classes).

    The head starts at zero, so that all classes are equal and the encoder's first gradient is not
    noise.
    """

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, *, width: int, classes: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        # On the meta device, so that no random numbers are drawn for weights that are zero.
        self.head = nn.Linear(width, classes, device="meta").to_empty(device="cpu")
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, items: Tensor) -> Float[Tensor, "b classes"]:
        """Give the logits of a batch of items."""
        logits: Tensor = self.head(self.projector(self.encoder(items)))
        return logits
