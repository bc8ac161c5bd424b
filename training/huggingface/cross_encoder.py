"""A cross-encoder in a Hugging Face folder: a query and a document in, one score out.

Two forms are read: transformers' AutoModelForSequenceClassification with one label, and
sentence-transformers' CrossEncoder around it (Nogueira and Cho 2019, arXiv:1901.04085). The
library's own classes are used and never a folder's code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.inputs import TextPair
from attar.text_pairs import PairInput

from . import tokenization
from .config import listed_modules, read_json, refuse_code, size
from .tokenization import FolderTokenizer
from .transformers_backend import check_depth, load

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert")
"""By `model_type`; each is tested, and another is refused."""

OFFSET = ("roberta", "xlm-roberta", "camembert")  # whose positions begin after the padding's id

WEIGHTS = "model.safetensors"
SETTINGS = "config_sentence_transformers.json"
ACTIVATIONS: Mapping[str, str] = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
}
_TASK = "sequence-classification"
_UNUSED = ("lm_head.", "cls.", "roberta.pooler.")


class CrossEncoderNetwork(nn.Module):
    """Ids, mask and, if the model is shown them, segments in: one number a row out, (b, 1)."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(
        self,
        input_ids: Int[Tensor, "b n"],
        attention_mask: Int[Tensor, "b n"],
        token_type_ids: Int[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b 1"]:
        """Score rows of ids; their mask is 1 where a token is real and 0 on padding."""
        arguments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: Tensor = self.classifier(
            input_ids=input_ids, attention_mask=attention_mask, **arguments
        ).logits
        return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoderModel:
    """A cross-encoder with its tokenizer, and its lineage.

    `tokenizer` is the content of a tokenizer.json, `max_length` the most tokens of a pair, and
    `segments` whether the network is shown which token is of which text. `activation`, "sigmoid" or
    "identity", makes a score of its number.
    """

    network: CrossEncoderNetwork
    tokenizer: bytes
    max_length: int
    segments: bool
    activation: str
    lineage: Mapping[str, object] = field(default_factory=dict)


def is_cross_encoder(folder: Path) -> bool:
    """Tell whether a folder says that it holds a cross-encoder, or a classifier of texts."""
    settings = _optional(folder / SETTINGS)
    if "model_type" in settings:
        return bool(settings["model_type"] == "CrossEncoder")
    if (folder / "modules.json").exists():
        return False
    named = _optional(folder / "config.json").get("architectures")
    return isinstance(named, list) and any(
        isinstance(name, str) and name.endswith("ForSequenceClassification") for name in named
    )


def read(folder: Path) -> CrossEncoderModel:
    """Give the cross-encoder of `folder`, ready for inference.

    Raises InvalidInput that names the missing or damaged file, the unsupported model, setting or
    weight, or the labels where there are more than one; MissingExtra without `transformers`.
    """
    config, where = read_json(folder / "config.json"), folder / "config.json"
    refuse_code(folder, config)
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise InvalidInput(
            f"{where} has model_type {kind!r}; of cross-encoders attar imports "
            f"{', '.join(FAMILIES)}"
        )
    _refuse_labels(config, where)
    _refuse_modules(folder)
    activation = _activation(folder, config)
    tokenizer = tokenization.read(folder, config, rows=size(config, "vocab_size", where))
    tokenizer.refuse_left_padding(f"a {kind}")
    path = folder / WEIGHTS
    if not path.is_file():
        raise InvalidInput(
            f"{path} is missing or no file; save the whole folder again, its weights as "
            "safetensors in one file"
        )
    if kind != "distilbert":
        check_depth(config, where, path)
    model = CrossEncoderModel(
        network=CrossEncoderNetwork(_classifier(folder, config, path)).eval(),
        tokenizer=tokenizer.content,
        max_length=_max_length(folder, config, tokenizer),
        segments=_shows_segments(config, tokenizer),
        activation=activation,
        lineage={"imported": str(config.get("_name_or_path") or folder.resolve().name)},
    )
    _check(tokenizer, model)
    return model


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _refuse_labels(config: Mapping[str, Any], where: Path) -> None:
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
    if count != 1:
        raise InvalidInput(
            f"{where} has {count} labels; a cross-encoder that ranks gives one score, so attar "
            "imports those with one label"
        )


def _refuse_modules(folder: Path) -> None:
    """Refuse what sentence-transformers would do besides running the model on a plain pair."""
    modules = folder / "modules.json"
    if modules.exists():
        kinds, folders = listed_modules(folder)
        if kinds != ["Transformer"] or folders != [folder]:
            raise InvalidInput(
                f"{modules} lists {kinds}; of a CrossEncoder attar imports one Transformer, in the "
                "folder itself"
            )
    sentences = _optional(folder / "sentence_bert_config.json")
    if sentences.get("transformer_task", _TASK) != _TASK:
        raise InvalidInput(
            f"{folder / 'sentence_bert_config.json'} has transformer_task "
            f"{sentences['transformer_task']!r}; attar imports {_TASK!r} only"
        )
    settings = _optional(folder / SETTINGS)
    if settings.get("default_prompt_name") is not None:
        raise InvalidInput(
            f"{folder / SETTINGS} has default_prompt_name {settings['default_prompt_name']!r}; "
            "attar gives a cross-encoder the two texts without a prompt"
        )


def _activation(folder: Path, config: Mapping[str, Any]) -> str:
    """Give what makes a score of a logit, by sentence-transformers' rule."""
    saved = config.get("sentence_transformers")
    named = (
        _optional(folder / SETTINGS).get("activation_fn")
        or (saved.get("activation_fn") if isinstance(saved, dict) else None)
        or config.get("sbert_ce_default_activation_function")
        or "torch.nn.modules.activation.Sigmoid"  # of one label
    )
    if named not in ACTIVATIONS:
        raise InvalidInput(
            f"{folder} has activation_fn {named!r}; attar imports {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[named]


def _classifier(folder: Path, config: Mapping[str, Any], path: Path) -> nn.Module:
    return load(
        folder,
        config,
        path,
        architecture="AutoModelForSequenceClassification",
        unused=_UNUSED,
    )


def _max_length(folder: Path, config: Mapping[str, Any], tokenizer: FolderTokenizer) -> int:
    """Give the most tokens of a pair: the tokenizer's limit, within the model's positions."""
    where = folder / "config.json"
    positions = size(config, "max_position_embeddings", where)
    if config["model_type"] in OFFSET:
        positions -= size(config, "pad_token_id", where) + 1
    sentences = folder / "sentence_bert_config.json"
    own = _optional(sentences)
    limit = size(own, "max_seq_length", sentences) if own.get("max_seq_length") else None
    return min(limit or tokenizer.limit or positions, positions)


def _shows_segments(config: Mapping[str, Any], tokenizer: FolderTokenizer) -> bool:
    segments = "token_type_ids" in tokenizer.library.model_input_names
    return segments and config["model_type"] != "distilbert" and config.get("type_vocab_size") != 1


def _check(tokenizer: FolderTokenizer, model: CrossEncoderModel) -> None:
    """Hold the runtime's ids and segments to transformers' over pairs of hard texts.

    Raises InvalidInput that shows the first pair which they tokenise differently.
    """
    host = PairInput(
        model.tokenizer,
        max_length=model.max_length,
        segments=model.segments,
        truncation_side=None,
    )
    texts = [*tokenization.hard_texts(tokenizer, model.max_length)]
    pairs = [TextPair(*pair) for pair in pairwise([*texts, texts[-1], texts[0]])]
    rows = host.prepare(pairs, role="passage", truncation="truncate")
    theirs = tokenizer.library(
        [pair.query for pair in pairs],
        [pair.document for pair in pairs],
        truncation="longest_first",
        max_length=model.max_length,
    )
    segments = theirs.get("token_type_ids", theirs["input_ids"])
    for pair, row, ids, kinds in zip(pairs, rows, theirs["input_ids"], segments, strict=True):
        same = row.arrays[0].tolist() == ids
        if not same or (model.segments and row.arrays[2].tolist() != kinds):
            raise InvalidInput(
                f"{tokenizer.root} makes other token ids of a pair in transformers than its "
                f"tokenizer.json can: of {pair.query[:60]!r} and {pair.document[:60]!r}; save a "
                "tokenizer whose steps are all in tokenizer.json (PreTrainedTokenizerFast)"
            )
