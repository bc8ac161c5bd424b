"""Read a sentence-transformers folder into the one token transformer; no transformers, no remote code.

Today: BERT with mean pooling and unit length, which is what all-MiniLM-L6-v2 is.  Whatever the folder
asks for beyond that is refused by name before any weight is read.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from attar.errors import InvalidInput

from .saved import TextModel
from .text import TextEncoder, TextShape
from .transformer import TransformerShape

MODULES = ("Transformer", "Pooling", "Normalize")
BLOCK = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def read(folder: Path) -> TextModel:
    """Give the encoder of a sentence-transformers `folder`, ready for inference.

    Raises InvalidInput that names the missing file, the unsupported module or the setting.
    """
    _check_modules(folder)
    config = _json(folder / "config.json")
    for key, supported in (
        ("model_type", "bert"),
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
    ):
        found = config.get(key, supported)
        if found != supported:
            raise InvalidInput(f"{folder}/config.json has {key} {found!r}; attar imports {supported!r} only")
    limit = _json(folder / "sentence_bert_config.json").get("max_seq_length", config["max_position_embeddings"])
    shape = TextShape(
        vocabulary=config["vocab_size"],
        max_length=limit,
        transformer=TransformerShape(
            width=config["hidden_size"],
            depth=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            hidden=config["intermediate_size"],
            norm_eps=config["layer_norm_eps"],
        ),
    )
    encoder = TextEncoder(shape)
    try:
        encoder.load_state_dict(_weights(folder / "model.safetensors", shape))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise InvalidInput(f"{folder}/model.safetensors does not fit config.json: {error}") from error
    prompts = _json(folder / "config_sentence_transformers.json", optional=True).get("prompts", {})
    try:
        tokenizer = (folder / "tokenizer.json").read_bytes()
    except OSError as error:
        raise InvalidInput(f"{folder}/tokenizer.json cannot be read ({error}); save the fast tokenizer") from error
    return TextModel(
        encoder=encoder.eval(),
        tokenizer=tokenizer,
        prompts={role: prompts.get(role, "") for role in ("query", "passage")},
        lineage={"imported": config.get("_name_or_path") or folder.name},
    )


def _check_modules(folder: Path) -> None:
    for module in _json(folder / "modules.json"):
        name = module["type"].rsplit(".", 1)[-1]
        if name not in MODULES:
            raise InvalidInput(
                f"{folder} uses the module {module['type']}; attar imports {', '.join(MODULES)} only"
            )
        if name == "Pooling":
            pooling = _json(folder / module["path"] / "config.json")
            on = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True]
            if on != ["pooling_mode_mean_tokens"]:
                raise InvalidInput(f"{folder} pools by {', '.join(on)}; attar imports mean pooling only")


def _weights(path: Path, shape: TextShape) -> dict[str, Tensor]:
    """Rename BERT's weights; token type 0 is added to every position, since one segment is all we embed."""
    theirs = {name.removeprefix("bert."): tensor.float() for name, tensor in load_file(path).items()}
    positions = theirs["embeddings.position_embeddings.weight"][: shape.max_length]
    ours = {
        "tokens.table.weight": theirs["embeddings.word_embeddings.weight"],
        "tokens.position.weight": positions + theirs["embeddings.token_type_embeddings.weight"][0],
        "tokens.norm.weight": theirs["embeddings.LayerNorm.weight"],
        "tokens.norm.bias": theirs["embeddings.LayerNorm.bias"],
    }
    for layer in range(shape.transformer.depth):
        for our, their in BLOCK.items():
            for part in ("weight", "bias"):
                ours[f"transformer.blocks.{layer}.{our}.{part}"] = theirs[f"encoder.layer.{layer}.{their}.{part}"]
    return {name: tensor.to(torch.float32) for name, tensor in ours.items()}


def _json(path: Path, *, optional: bool = False) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise InvalidInput(f"{path} is missing; attar imports sentence-transformers folders") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from error
