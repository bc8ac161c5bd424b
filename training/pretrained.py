"""Pretrained encoders: read a folder that attar or a Hugging Face library wrote."""

from pathlib import Path

from attar.errors import InvalidInput

from .checkpoints import encoder_folder
from .checkpoints.encoder_folder import TensorModel, TextModel
from .encoders.text import TextNetwork
from .huggingface import loading


def load_checkpoint(folder: str | Path) -> TextModel[TextNetwork] | TensorModel:
    """Read an encoder that attar saved, or a sentence-transformers or transformers folder.

    The encoder is in evaluation mode. Raises InvalidInput that names a file which is missing,
    damaged or of another kind, and MissingExtra where the model needs `transformers`.
    """
    folder = Path(folder)
    encoder_folder.refuse_two_models(folder)
    if any((folder / name).exists() for name in ("modules.json", "config.json")):
        return loading.read(folder)
    return encoder_folder.load(folder)


def load_text_checkpoint(folder: str | Path) -> TextModel[TextNetwork]:
    """Read a text encoder as `load_checkpoint` does; raises InvalidInput for other encoders too."""
    model = load_checkpoint(folder)
    if isinstance(model, TensorModel):
        raise InvalidInput(
            f"{folder} holds an encoder of {model.encoder.modality}; this needs one of texts"
        )
    return model
