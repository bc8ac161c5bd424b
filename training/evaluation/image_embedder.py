"""What the suite judges: an encoder, a bundle or a network by name, as a function of images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import attar
from attar.bundle import MANIFEST
from attar.errors import InvalidInput

from ..backbones.network import is_backbone
from ..checkpoints import encoder_folder
from ..checkpoints.encoder_folder import TensorModel
from ..data.source import embed
from ..encoders.backbone import Backbone
from ..encoders.encoder import TensorEncoder
from .suite import Embed


@dataclass(frozen=True, slots=True)
class ImageEmbedder:
    """Embeds (n, c, h, w) images in [0, 1]; `side` is theirs where the encoder takes one alone."""

    embed: Embed
    side: int | None


def image_embedder(encoder: str | Path) -> ImageEmbedder:
    """Give what embeds images by `encoder`: a folder that attar wrote, a bundle, or a name.

    A name is timm:NAME or torch:MODULE:FACTORY. Raises InvalidInput for another encoder than one of
    images, and the errors of reading it.
    """
    if is_backbone(name := str(encoder)):
        return _of_torch(Backbone.pretrained(name).eval())
    path = Path(encoder)
    if path.is_file() or (path / MANIFEST).exists():
        return _of_bundle(path)
    model = encoder_folder.load(path)
    if not isinstance(model, TensorModel) or model.encoder.modality != "image":
        kind = model.encoder.modality if isinstance(model, TensorModel) else "text"
        raise InvalidInput(f"{encoder} holds an encoder of {kind}; the suite is of images")
    return _of_torch(model.encoder)


def _of_torch(encoder: TensorEncoder) -> ImageEmbedder:
    side = encoder.input.shape[-1]
    return ImageEmbedder(
        lambda images: embed(encoder, torch.from_numpy(images), batch=64),
        side if isinstance(side, int) else None,
    )


def _of_bundle(path: Path) -> ImageEmbedder:
    encoder = attar.load(path)
    manifest = encoder.manifest
    if manifest.modality != "image":
        raise InvalidInput(
            f"{path} holds an encoder of {manifest.modality}; the suite is of images"
        )
    spec = manifest.inputs[0]
    if spec.dtype == "uint8":  # images as they are decoded, of any size

        def decoded(images: NDArray[np.float32]) -> NDArray[np.float32]:
            colour = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
            levels = (colour * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
            return np.asarray(encoder.embed(list(levels)).vectors, np.float32)

        return ImageEmbedder(decoded, None)
    side = spec.shape[-1]
    return ImageEmbedder(
        lambda images: np.asarray(encoder.embed(list(images)).vectors, np.float32),
        side if isinstance(side, int) else None,
    )
