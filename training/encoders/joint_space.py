"""One embedding space for several modalities, with an encoder for each."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import InvalidInput

from .encoder import TensorEncoder


class JointSpace(nn.Module):
    """An encoder for each modality, all of one width: `space(*batches)` is (b, modalities, dim).

    Batches are in the order of `names`, which is that of the encoders. Raises InvalidInput for
    fewer than two encoders, or encoders of different widths.
    """

    def __init__(self, encoders: Mapping[str, TensorEncoder]) -> None:
        super().__init__()
        widths = {name: encoder.dim for name, encoder in encoders.items()}
        if len(encoders) < 2 or len(set(widths.values())) > 1:
            raise InvalidInput(
                "a joint space needs at least two encoders of one dim; got "
                + (", ".join(f"{name} of {dim}" for name, dim in widths.items()) or "none")
            )
        self.names = tuple(encoders)
        self.dim = next(iter(widths.values()))
        self.encoders = nn.ModuleDict(encoders)

    def forward(self, *batches: Float[Tensor, "b ..."]) -> Float[Tensor, "b modalities dim"]:
        """Embed the same b objects in every modality."""
        parts = zip(self.encoders.values(), batches, strict=True)
        return torch.stack([encoder(batch) for encoder, batch in parts], dim=1)

    def encoder(self, name: str) -> TensorEncoder:
        """Give the encoder of a modality; raises InvalidInput for a name that is not in `names`."""
        if name in self.names:
            encoder = self.encoders[name]
            assert isinstance(encoder, TensorEncoder)
            return encoder
        raise InvalidInput(f"there is no modality {name!r}; there are {', '.join(self.names)}")
