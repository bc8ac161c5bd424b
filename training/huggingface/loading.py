"""A Hugging Face folder as a text model: BERT's families in attar's blocks, others by transformers.

No code of the folder's is ever run, and weights are read from safetensors alone.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from attar.errors import InvalidInput

from ..checkpoints.encoder_folder import TextModel
from ..encoders.text import TextNetwork
from . import bert, tokenization, transformers_backend
from .config import Declared, Described, describe, refuse_other_widths, size
from .tokenization import FolderTokenizer

WEIGHTS = "model.safetensors"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
SHARDS = "model.safetensors.index.json"
SILENT = Declared()


def read(folder: Path, declared: Declared = SILENT) -> TextModel[TextNetwork]:
    """Give the encoder of a sentence-transformers or transformers `folder`, ready for inference.

    `declared` is what the folder does not say of itself. Raises InvalidInput that names the missing
    or damaged file, the unsupported module, model, setting or weight, and MissingExtra when the
    model needs `transformers`.
    """
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
    path = described.root / WEIGHTS
    _refuse_other_weights(path)
    head = _head_weights(described)
    encoder: TextNetwork
    if family := bert.FAMILIES.get(kind):
        if not family.offset:
            tokenizer.refuse_left_padding(f"a {kind}")
        encoder = bert.encoder(described, family, _weights(path), head, path)
    else:
        encoder = transformers_backend.encoder(described, head, path)
    for name, weight in encoder.state_dict().items():
        if not torch.isfinite(weight).all():
            raise InvalidInput(f"{path} holds a NaN or an infinity, in {name}; it is damaged")
    refuse_other_widths(described, described.config.get("hidden_size", described.config.get("dim")))
    if declared.dims and declared.dims[-1] > encoder.dim:
        raise InvalidInput(
            f"{folder} gives embeddings {encoder.dim} wide, which cannot be cut to "
            f"{declared.dims[-1]}; declare smaller widths"
        )
    tokenization.check(tokenizer, max_length=encoder.max_length, prompts=described.prompts)
    return TextModel(
        encoder=encoder.eval(),
        tokenizer=tokenizer.content,
        dims=tuple(width for width in described.dims if width < encoder.dim),
        prompts=described.prompts,
        lineage={
            "imported": described.name,
            **({} if declared == SILENT else {"declared": asdict(declared)}),
        },
    )


def _refuse_other_weights(path: Path) -> None:
    """Say how weights in another form become what is read here: safetensors, in one file."""
    root = path.parent
    if path.is_file():
        return
    if (root / SHARDS).exists():
        raise InvalidInput(
            f"{root} has its weights in shards; save it again in one file (max_shard_size='100GB')"
        )
    if pickle := next((name for name in PICKLES if (root / name).exists()), None):
        raise InvalidInput(
            f"{root} has {pickle}, a pickle, which may run code as it is read; save it again as "
            "safetensors (save_pretrained does) where you trust it"
        )
    raise InvalidInput(f"{path} is missing or no file; save the whole folder again")


def _weights(path: Path) -> dict[str, Tensor]:
    _refuse_other_weights(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidInput(f"{path} is damaged: {error}") from error


def _head_weights(described: Described) -> dict[str, Tensor]:
    """Give the dense layers' weights by the names that a head has for them."""
    ours = {}
    for index, folder in enumerate(described.modules[1:]):
        path = folder / WEIGHTS
        theirs = _weights(path)
        parts = ("weight", "bias") if described.head.dense[index].bias else ("weight",)
        if theirs.keys() != {f"linear.{part}" for part in parts}:
            names = ", ".join(map(repr, sorted(theirs))) or "no weights"
            raise InvalidInput(f"{path} has {names}; expected linear's {' and '.join(parts)}")
        width = described.head.dense[index].width
        for part in parts:
            weight = theirs[f"linear.{part}"]
            if weight.shape[:1] != (width,):
                raise InvalidInput(
                    f"{path} does not fit its config.json: linear.{part} has shape "
                    f"{(*weight.shape,)} and out_features is {width}"
                )
            ours[f"dense.{2 * index}.{part}"] = weight.float()  # each layer's activation follows it
    return ours


def _limit(tokenizer: FolderTokenizer, config: Mapping[str, Any]) -> int | None:
    """Give the most tokens of a text by sentence-transformers' rule, where a file says it."""
    positions = config.get("max_position_embeddings")
    limits = [most for most in (tokenizer.limit, positions) if type(most) is int and most >= 1]
    return min(limits, default=None)
