"""A Hugging Face folder as a text model: BERT's families in attar's blocks, others by transformers.

No code of the folder's is ever run, and weights are read from safetensors alone.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attar.errors import InvalidInput

from ..checkpoints.encoder_folder import TextModel
from ..encoders.pooling import Dense
from ..encoders.text import TextNetwork
from . import bert, static_embedding, tokenization, transformers_backend, weights
from .config import Declared, Described, Space, describe, describe_space, refuse_other_widths, size
from .tokenization import FolderTokenizer

SILENT = Declared()


def read(folder: Path, declared: Declared = SILENT) -> TextModel[TextNetwork]:
    """Give the encoder of a sentence-transformers or transformers `folder`, ready for inference.

    `declared` is what the folder does not say of itself. Raises InvalidInput that names the missing
    or damaged file, the unsupported module, model, setting or weight, and MissingExtra when the
    model needs `transformers`.
    """
    if root := static_embedding.root(folder, declared.route):
        space = describe_space(folder, declared, unit=root.unit)
        encoder, tokenizer = static_embedding.read(root.path, normalized=space.normalized)
        return _model(
            folder, encoder, declared, space, tokenizer=tokenizer, name=folder.resolve().name
        )
    return _transformer(folder, declared)


def _transformer(folder: Path, declared: Declared) -> TextModel[TextNetwork]:
    """Give the model of a folder whose first module is a transformer."""
    described = describe(folder, declared)
    kind, where = described.config.get("model_type"), described.root / "config.json"
    supported = (*bert.FAMILIES, *transformers_backend.FAMILIES)
    if kind not in supported:
        raise InvalidInput(f"{where} has model_type {kind!r}; attar imports {', '.join(supported)}")
    tokenizer = tokenization.read(
        described.root,
        described.config,
        rows=size(described.config, "vocab_size", where),
        lowercase=described.lowercase,
    )
    described = replace(described, limit=described.limit or _limit(tokenizer, described.config))
    path = weights.files(described.root)[0]
    head = _head_weights(described)
    encoder: TextNetwork
    if family := bert.FAMILIES.get(kind):
        if not family.offset:
            tokenizer.refuse_left_padding(f"a {kind}")
        encoder = bert.encoder(described, family, weights.load(described.root), head, path)
    else:
        if transformers_backend.positions(described.config) == "learned":
            tokenizer.refuse_left_padding(f"a {kind}")
        encoder = transformers_backend.encoder(described, head, path)
    refuse_other_widths(described, _width(described.config))
    space = described.space
    model = _model(
        folder, encoder, declared, space, tokenizer=tokenizer.content, name=described.name
    )
    tokenization.check(tokenizer, max_length=encoder.max_length, prompts=space.prompts)
    return model


def _model(
    folder: Path,
    encoder: TextNetwork,
    declared: Declared,
    space: Space,
    *,
    tokenizer: bytes,
    name: str,
) -> TextModel[TextNetwork]:
    """Give a model of sound weights, whose embeddings are as wide as what is declared."""
    for key, weight in encoder.state_dict().items():
        if not torch.isfinite(weight).all():
            raise InvalidInput(
                f"{folder} holds a NaN or an infinity among its weights, in {key}; it is damaged"
            )
    if declared.dims and declared.dims[-1] > encoder.dim:
        raise InvalidInput(
            f"{folder} gives embeddings {encoder.dim} wide, which cannot be cut to "
            f"{declared.dims[-1]}; declare smaller widths"
        )
    return TextModel(
        encoder=encoder.eval(),
        tokenizer=tokenizer,
        dims=tuple(width for width in space.dims if width < encoder.dim),
        prompts=space.prompts,
        lineage={
            "imported": name,
            **({} if declared == SILENT else {"declared": asdict(declared)}),
        },
    )


def _width(config: Mapping[str, Any]) -> int:
    """Give the width of a transformer's states, which its encoder has already checked."""
    return next(int(config[key]) for key in ("hidden_size", "dim", "d_model") if key in config)


def _head_weights(described: Described) -> dict[str, Tensor]:
    """Give the weights of the layers after pooling by the names that a head has for them."""
    ours: dict[str, Tensor] = {}
    position = 0
    for layer, folder in zip(described.head.dense, described.modules[1:], strict=True):
        path = folder / weights.WEIGHTS
        theirs = weights.load(folder)
        dense = isinstance(layer, Dense)
        name = "linear" if dense else "norm"
        parts = ("weight",) if isinstance(layer, Dense) and not layer.bias else ("weight", "bias")
        if theirs.keys() != {f"{name}.{part}" for part in parts}:
            names = ", ".join(map(repr, sorted(theirs))) or "no weights"
            raise InvalidInput(f"{path} has {names}; expected {name}'s {' and '.join(parts)}")
        for part in parts:
            weight = theirs[f"{name}.{part}"]
            if isinstance(layer, Dense) and weight.shape[:1] != (layer.width,):
                raise InvalidInput(
                    f"{path} does not fit its config.json: linear.{part} has shape "
                    f"{(*weight.shape,)} and out_features is {layer.width}"
                )
            ours[f"dense.{position}.{part}"] = weight.float()
        position += 2 if dense else 1  # a dense layer's activation follows it
    return ours


def _limit(tokenizer: FolderTokenizer, config: Mapping[str, Any]) -> int | None:
    """Give the most tokens of a text by sentence-transformers' rule, where a file says it."""
    positions = config.get("max_position_embeddings")
    limits = [most for most in (tokenizer.limit, positions) if type(most) is int and most >= 1]
    return min(limits, default=None)
