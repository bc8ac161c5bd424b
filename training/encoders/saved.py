"""An encoder on disk: weights as safetensors, shape and lineage as JSON, the tokenizer beside them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from attar.errors import InvalidInput

from .text import TextEncoder, TextShape
from .transformer import TransformerShape

WEIGHTS, SHAPE, TOKENIZER = "encoder.safetensors", "encoder.json", "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """A text encoder with what it needs to meet text: tokenizer.json, prompts, and where it came from."""

    encoder: TextEncoder
    tokenizer: bytes
    prompts: Mapping[str, str] = field(default_factory=dict)
    lineage: Mapping[str, object] = field(default_factory=dict)
    licence: str | None = None


def save(model: TextModel, folder: Path) -> None:
    """Write the model to `folder`, which may exist; its files are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in model.encoder.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    about = {
        "shape": asdict(model.encoder.shape),
        "prompts": dict(model.prompts),
        "lineage": dict(model.lineage),
        "licence": model.licence,
    }
    (folder / SHAPE).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
    (folder / TOKENIZER).write_bytes(model.tokenizer)


def load(folder: Path) -> TextModel:
    """Read what `save` wrote.

    Raises InvalidInput when a file is missing or damaged; the message names it.
    """
    try:
        about = json.loads((folder / SHAPE).read_text())
        shape = dict(about["shape"])
        shape["transformer"] = TransformerShape(**shape["transformer"])
        encoder = TextEncoder(TextShape(**shape))
        encoder.load_state_dict(load_file(folder / WEIGHTS))
        tokenizer = (folder / TOKENIZER).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InvalidInput(
            f"{folder} does not hold an encoder of attar ({error}); "
            f"it should have {WEIGHTS}, {SHAPE} and {TOKENIZER}, as `attar pretrain` writes them"
        ) from error
    return TextModel(
        encoder=encoder.eval(),
        tokenizer=tokenizer,
        prompts=about["prompts"],
        lineage=about["lineage"],
        licence=about["licence"],
    )
