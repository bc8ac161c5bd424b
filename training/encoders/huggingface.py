"""Read a sentence-transformers folder into the one token transformer: no transformers, no code.

Today: BERT with mean pooling and unit length, which is what all-MiniLM-L6-v2 is. Whatever the
folder asks for beyond that is refused by name before any weight is read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from attar.errors import InvalidInput

from .saved import TextModel
from .text import TextEncoder, TextShape
from .transformer import TransformerShape

MODULES = ("Transformer", "Pooling", "Normalize")
SUPPORTED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
}
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
UNUSED = ("pooler.", "cls.", "embeddings.position_ids")  # what a mean of tokens does not pass


def read(folder: Path) -> TextModel[TextEncoder]:
    """Give the encoder of a sentence-transformers `folder`, ready for inference.

    Raises InvalidInput that names the missing file, the unsupported module, the setting or the
    weight that does not fit.
    """
    _check_modules(folder)
    encoder = TextEncoder(_shape(folder))
    path = folder / "model.safetensors"
    try:
        weights = _weights(load_file(path), encoder.shape)
    except (OSError, SafetensorError) as error:
        raise InvalidInput(f"{path} is missing or damaged: {error}") from error
    except KeyError as error:
        raise InvalidInput(f"{path} lacks {error}, which config.json asks for") from error
    for name, expected in encoder.state_dict().items():
        if weights[name].shape != expected.shape:
            raise InvalidInput(
                f"{path} does not fit config.json: {name} has shape {(*weights[name].shape,)} "
                f"and should have {(*expected.shape,)}"
            )
    encoder.load_state_dict(weights)
    try:
        tokenizer = (folder / "tokenizer.json").read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{folder / 'tokenizer.json'} cannot be read ({error}); save the fast tokenizer"
        ) from error
    prompts = _json(folder / "config_sentence_transformers.json", optional=True).get("prompts", {})
    return TextModel(
        encoder=encoder.eval(),
        tokenizer=tokenizer,
        prompts={role: prompts.get(role, "") for role in ("query", "passage")},
        lineage={"imported": _json(folder / "config.json").get("_name_or_path") or folder.name},
    )


def _check_modules(folder: Path) -> None:
    modules = _json(folder / "modules.json")
    names = []
    for module in modules:
        package, _, name = module["type"].rpartition(".")
        if name not in MODULES or not package.startswith("sentence_transformers."):
            raise InvalidInput(
                f"{folder} uses the module {module['type']}; attar imports {', '.join(MODULES)} "
                "of sentence_transformers only"
            )
        names.append(name)
    if tuple(names) != MODULES:
        raise InvalidInput(
            f"{folder} is made of {', '.join(names)}; attar imports {', '.join(MODULES)} only"
        )
    pooling = _json(folder / modules[MODULES.index("Pooling")]["path"] / "config.json")
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True]
    if modes != ["pooling_mode_mean_tokens"]:
        raise InvalidInput(f"{folder} pools by {', '.join(modes)}; attar imports mean pooling only")
    if pooling.get("include_prompt", True) is not True:
        raise InvalidInput(f"{folder} leaves prompts out of pooling; attar pools every token")


def _shape(folder: Path) -> TextShape:
    path = folder / "config.json"
    config = _json(path)
    for key, supported in SUPPORTED.items():
        found = config.get(key, supported)
        if found != supported:
            raise InvalidInput(f"{path} has {key} {found!r}; attar imports {supported!r} only")
    limit = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    try:
        return TextShape(
            vocabulary=config["vocab_size"],
            max_length=limit or config["max_position_embeddings"],
            transformer=TransformerShape(
                width=config["hidden_size"],
                depth=config["num_hidden_layers"],
                heads=config["num_attention_heads"],
                hidden=config["intermediate_size"],
                norm_eps=config["layer_norm_eps"],
            ),
        )
    except KeyError as error:
        raise InvalidInput(f"{path} lacks {error}, which a BERT's configuration has") from error


def _weights(file: dict[str, Tensor], shape: TextShape) -> dict[str, Tensor]:
    """Give BERT's weights our names.

    One segment is all we embed, so its token type 0 is added to every position. Raises KeyError
    for a weight that is missing, InvalidInput for one that would be left over.
    """
    theirs = {name.removeprefix("bert."): weight.float() for name, weight in file.items()}
    ours = {our: theirs.pop(their) for our, their in _names(shape.transformer.depth)}
    positions = theirs.pop("embeddings.position_embeddings.weight")[: shape.max_length]
    segment = theirs.pop("embeddings.token_type_embeddings.weight")[0]
    if left := sorted(name for name in theirs if not name.startswith(UNUSED)):
        raise InvalidInput(
            f"config.json has no place for {len(left)} weights of model.safetensors: {left[0]}, ..."
        )
    return {**ours, "tokens.position.weight": positions + segment}


def _names(depth: int) -> Iterator[tuple[str, str]]:
    """Pair our names of weights with theirs, but for positions."""
    yield "tokens.table.weight", "embeddings.word_embeddings.weight"
    for part in ("weight", "bias"):
        yield f"tokens.norm.{part}", f"embeddings.LayerNorm.{part}"
        for layer in range(depth):
            for our, their in BLOCK.items():
                yield (
                    f"transformer.blocks.{layer}.{our}.{part}",
                    f"encoder.layer.{layer}.{their}.{part}",
                )


def _json(path: Path, *, optional: bool = False) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise InvalidInput(
            f"{path} is missing; attar imports sentence-transformers folders"
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from error
