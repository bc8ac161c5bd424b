"""One embedding space for several modalities: an encoder of each, and what says they belong."""

from collections.abc import Iterator, Mapping
from hashlib import sha256

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import InvalidInput

from ..checkpoints.encoder_folder import TensorModel
from .encoder import TensorEncoder


class JointSpace(nn.Module):
    """An encoder a modality, all of one width: `space(*batches)` is (b, modalities, dim).

    Batches are in the order of `names`, that of the encoders. Raises InvalidInput when encoders are
    fewer than two or differ in width.
    """

    def __init__(self, encoders: Mapping[str, TensorEncoder]) -> None:
        super().__init__()
        widths = {name: encoder.dim for name, encoder in encoders.items()}
        if len(encoders) < 2 or len(set(widths.values())) > 1:
            raise InvalidInput(
                "a shared space has at least two encoders, and their dim is one; got "
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
        """Give the encoder of a modality; raises InvalidInput, which lists those there are."""
        for known, encoder in self._each():
            if known == name:
                return encoder
        raise InvalidInput(f"there is no modality {name!r}; there are {', '.join(self.names)}")

    def models(self, lineage: Mapping[str, object] | None = None) -> dict[str, TensorModel]:
        """Give each encoder as a model of its own, to save and to export.

        In `lineage`, what is given stands beside "space": the `id` that all encoders of this space
        have in common, a hash of all their weights, and which of its `modalities` this one is.
        """
        digest = sha256()
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        space = {"id": f"sha256:{digest.hexdigest()}", "modalities": list(self.names)}
        return {
            name: TensorModel(
                encoder=encoder, lineage={**(lineage or {}), "space": {**space, "modality": name}}
            )
            for name, encoder in self._each()
        }

    def _each(self) -> Iterator[tuple[str, TensorEncoder]]:
        for name, encoder in self.encoders.items():
            assert isinstance(encoder, TensorEncoder)
            yield name, encoder
