"""Small vision and audio models of transformers, with random weights."""

from typing import Any

import pytest

transformers: Any = pytest.importorskip("transformers")

SIDE, RATE = 32, 1600
LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = {**LAYERS, "intermediate_size": 32}
PATCHES = {"image_size": SIDE, "patch_size": 16}
CONVOLUTIONS = {
    "conv_dim": [8, 8],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


def dinov2(**options: Any) -> Any:
    """Give one whose positions were learned for smaller images than are prepared."""
    config = transformers.Dinov2Config(**LAYERS, image_size=SIDE // 2, patch_size=8, **options)
    return transformers.Dinov2Model(config)


def wav2vec2(**options: Any) -> Any:
    return transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(**SIZES, **CONVOLUTIONS, **options)
    )
