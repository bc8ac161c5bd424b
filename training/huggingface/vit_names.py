"""Read and write a vision transformer in the format of transformers.

Theirs is `ViTModel` (Dosovitskiy et al. 2021, arXiv:2010.11929): pre-norm, learned positions, a
class token that has one too, and GELU. An embedding is the class token's state after the last norm.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from attar.errors import InvalidInput

from ..encoders.transformer import TransformerConfig
from ..encoders.vit import VitConfig, VitEncoder
from . import save_pretrained
from .config import epsilon, read_json, refuse_code, size

BLOCK: Mapping[str, str] = {
    "attention.query": "attention.attention.query",
    "attention.key": "attention.attention.key",
    "attention.value": "attention.attention.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "layernorm_before",
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "feed_forward_norm": "layernorm_after",
}
PREFIX = "vit."  # what a model with a task's head puts before all of the encoder's names
CLASS, POSITIONS = "embeddings.cls_token", "embeddings.position_embeddings"
UNUSED = ("pooler.", "classifier.", "decoder.", "embeddings.mask_token")
WEIGHTS = "model.safetensors"


def read(folder: Path, *, normalized: bool = True) -> VitEncoder:
    """Give the encoder of a transformers `folder`, ready for inference.

    The folder does not say whether embeddings have unit length; `normalized` does. Raises
    InvalidInput that names the file, the setting or the weight that is missing, damaged or not
    supported.
    """
    where, path = folder / "config.json", folder / WEIGHTS
    config = read_json(where)
    refuse_code(folder, config)
    for key, supported in {"model_type": "vit", "hidden_act": "gelu"}.items():
        if config.get(key, supported) != supported:
            raise InvalidInput(f"{where} has {key} {config[key]!r}; attar reads {supported!r} only")
    shape = _shape(config, where, normalized=normalized)
    try:
        theirs = {name.removeprefix(PREFIX): w.float() for name, w in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise InvalidInput(f"{path} is missing or damaged: {error}") from error
    if config.get("qkv_bias", True) is False:
        theirs |= _no_bias(shape.transformer)
    try:
        ours = {our: theirs.pop(their) for our, their in _names(shape.transformer.depth)}
        positions, first = theirs.pop(POSITIONS), theirs.pop(CLASS)
    except KeyError as error:
        raise InvalidInput(f"{path} lacks {error}, which {where.name} asks for") from error
    if left := sorted(name for name in theirs if not name.startswith(UNUSED)):
        raise InvalidInput(
            f"{where.name} has no place for {len(left)} weights of {path.name}: {left[0]!r}, ..."
        )
    ours["first"] = (first + positions[:, :1]).flatten()  # of the class token both are constant
    ours["position"] = positions[0, 1:]
    with torch.device("meta"):  # sizes alone: damage is reported before memory is allocated
        encoder = VitEncoder(shape)
    for name, expected in encoder.state_dict().items():
        if ours[name].shape != expected.shape:
            raise InvalidInput(
                f"{path} does not fit {where.name}: {name} has shape {(*ours[name].shape,)} and "
                f"should have {(*expected.shape,)}"
            )
    encoder.load_state_dict(ours, assign=True)
    return encoder.eval()


def _shape(config: Mapping[str, Any], where: Path, *, normalized: bool) -> VitConfig:
    """Give the sizes that the settings in the file `where` state."""
    return VitConfig(
        channels=size(config, "num_channels", where),
        side=size(config, "image_size", where),
        patch=size(config, "patch_size", where),
        transformer=TransformerConfig(
            width=size(config, "hidden_size", where),
            depth=size(config, "num_hidden_layers", where),
            heads=size(config, "num_attention_heads", where),
            hidden=size(config, "intermediate_size", where),
            norm="pre",
            norm_eps=epsilon(config.get("layer_norm_eps", 1e-12), where),
        ),
        pooling="cls",
        normalized=normalized,
    )


def write(encoder: VitEncoder, folder: Path) -> None:
    """Write the encoder to `folder` so that transformers' ViTModel reads it.

    Its `last_hidden_state[:, 0]` is then the embedding, before unit length. Raises InvalidInput,
    before anything is written, when the encoder is not of the layout's form.
    """
    shape, sizes = encoder.shape, encoder.shape.transformer
    if shape.pooling != "cls" or shape.dim is not None or sizes.norm != "pre":
        raise InvalidInput(
            "transformers' ViT is pre-norm, its embedding is the class token's and as wide as the "
            f"transformer; got pooling {shape.pooling!r}, dim {shape.dim}, norm {sizes.norm!r}"
        )
    save_pretrained.refuse_attention(encoder.transformer, "ViT")
    ours = encoder.state_dict()
    first = ours["first"][None, None]
    positions = torch.cat([torch.zeros_like(first), ours["position"][None]], 1)
    config = {
        "architectures": ["ViTModel"],
        "model_type": "vit",
        "num_channels": shape.channels,
        "image_size": shape.side,
        "patch_size": shape.patch,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.depth,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.hidden,
        "hidden_act": "gelu",
        "layer_norm_eps": sizes.norm_eps,
        "qkv_bias": True,
    }
    weights = {their: ours[our] for our, their in _names(sizes.depth)}
    save_pretrained.write(folder, config, weights | {CLASS: first, POSITIONS: positions})


def _names(depth: int) -> Iterator[tuple[str, str]]:
    """Pair our names of weights with theirs, but for the class token and positions."""
    for part in ("weight", "bias"):
        yield f"patches.{part}", f"embeddings.patch_embeddings.projection.{part}"
        yield f"transformer.final_norm.{part}", f"layernorm.{part}"
        for layer in range(depth):
            for our, their in BLOCK.items():
                yield f"transformer.blocks.{layer}.{our}.{part}", _inside(layer, their, part)


def _inside(layer: int, their: str, part: str) -> str:
    return f"encoder.layer.{layer}.{their}.{part}"


def _no_bias(shape: TransformerConfig) -> dict[str, Tensor]:
    """Give the biases that a folder without them leaves out."""
    return {
        _inside(layer, BLOCK[f"attention.{name}"], "bias"): torch.zeros(shape.width)
        for layer in range(shape.depth)
        for name in ("query", "key", "value")
    }
