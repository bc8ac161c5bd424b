"""A folder in transformers' layout: config.json and model.safetensors, under its names."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from attar.errors import InvalidInput

from ..encoders.attention import SoftmaxAttention
from ..encoders.transformer import TokenTransformer


def write(folder: Path, config: Mapping[str, object], weights: Mapping[str, Tensor]) -> None:
    """Write a model that `from_pretrained` reads; `folder` may exist, its files are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"dtype": "float32", **config}, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text)
    save_file(
        {name: weight.detach().cpu().float().contiguous() for name, weight in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},  # the library asks for it
    )


def refuse_attention(transformer: TokenTransformer, layout: str) -> None:
    """Raise InvalidInput when a layer does not attend by softmax without rotary positions."""
    for layer, block in enumerate(transformer.blocks):
        attention = block.attention
        if not isinstance(attention, SoftmaxAttention) or attention.rotary:
            raise InvalidInput(
                f"transformers' {layout} attends by softmax without rotary positions; layer "
                f"{layer} has {type(attention).__name__}: save the encoder as attar's own, or "
                "export it to a bundle"
            )
