"""DINO's head: a perceptron, a bottleneck of unit length, and cosines with learned prototypes.

Caron et al., ICCV 2021, arXiv:2104.14294, appendix C.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from .encoder import refuse_sizes_below_one


class PrototypeHead(nn.Module):
    """Give the cosines between an embedding's bottleneck and each of `outputs` prototypes.

    `dim`, `hidden` (twice) and `bottleneck` are the widths of the perceptron. Raises InvalidInput
    for a size below one.
    """

    def __init__(self, dim: int, *, hidden: int, bottleneck: int, outputs: int) -> None:
        super().__init__()
        sizes = {"hidden": hidden, "bottleneck": bottleneck, "outputs": outputs}
        refuse_sizes_below_one(sizes, **sizes)
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.outputs = nn.Linear(bottleneck, outputs, bias=False)

    def forward(self, embedding: Tensor, *, frozen: bool = False) -> Tensor:
        """Give (n, outputs) logits for (n, dim) embeddings; `frozen` prototypes get no gradient."""
        unit = F.normalize(self.layers(embedding), dim=1)
        weight = self.outputs.weight.detach() if frozen else self.outputs.weight
        logits: Tensor = F.linear(unit, F.normalize(weight, dim=1))
        return logits
