"""BERT, RoBERTa and DistilBERT as attar's token transformer.

They differ in the names of weights and in the first position.

BERT (Devlin et al. 2019, arXiv:1810.04805), RoBERTa (arXiv:1907.11692), XLM-R (arXiv:1911.02116),
CamemBERT (arXiv:1911.03894) and DistilBERT (arXiv:1910.01108) are one architecture: post-norm
blocks, learned positions and GELU. Read into ours, they can be distilled and binarized.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from attar.errors import InvalidInput

from ..checkpoints.encoder_folder import TextModel
from ..encoders.text import TextConfig, TextEncoder
from ..encoders.transformer import TransformerConfig
from . import save_pretrained
from .config import Described, epsilon, size

EMBEDDINGS = "embeddings"
SEGMENTS = 2  # that BERT has a type for; we embed one


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How one model names what all have; `offset` is what stands before the first position.

    `sizes` are the configuration's words for width, depth, heads and hidden, `block` the weights of
    layer i under `layers`.i, `unused` what a checkpoint may hold in addition to the encoder.
    """

    prefix: str
    layers: str
    block: Mapping[str, str]
    sizes: Mapping[str, str]
    activation: str
    unused: tuple[str, ...]
    offset: bool = False
    segments: bool = True


BERT = Family(
    prefix="bert.",
    layers="encoder.layer",
    block={
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "attention.out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "expand": "intermediate.dense",
        "contract": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    },
    sizes={
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "hidden": "intermediate_size",
    },
    activation="hidden_act",
    unused=("pooler.", "cls.", "classifier.", "embeddings.position_ids"),
)
# fairseq numbers positions from the padding's id on, which padding itself keeps.
ROBERTA = Family(
    prefix="roberta.",
    layers=BERT.layers,
    block=BERT.block,
    sizes=BERT.sizes,
    activation=BERT.activation,
    unused=(*BERT.unused, "lm_head."),
    offset=True,
)
DISTILBERT = Family(
    prefix="distilbert.",
    layers="transformer.layer",
    block={
        "attention.query": "attention.q_lin",
        "attention.key": "attention.k_lin",
        "attention.value": "attention.v_lin",
        "attention.out": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "expand": "ffn.lin1",
        "contract": "ffn.lin2",
        "feed_forward_norm": "output_layer_norm",
    },
    sizes={"width": "dim", "depth": "n_layers", "heads": "n_heads", "hidden": "hidden_dim"},
    activation="activation",
    unused=("vocab_", "pre_classifier.", "classifier.", "embeddings.position_ids"),
    segments=False,
)
FAMILIES: Mapping[str, Family] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": DISTILBERT,
}
"""By `model_type`."""

PLAIN: Mapping[str, object] = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


def encoder(
    described: Described,
    family: Family,
    file: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    path: Path,
) -> TextEncoder:
    """Give the encoder with the transformer's weights of `file`, read from `path`, and its head's.

    Raises InvalidInput that names the setting, the missing weight, the one that does not fit or
    the one that would be left over.
    """
    config, where = described.config, described.root / "config.json"
    for key, supported in {**PLAIN, family.activation: "gelu"}.items():
        if config.get(key, supported) != supported:
            raise InvalidInput(
                f"{where} has {key} {config[key]!r}; attar imports {supported!r} only"
            )
    theirs = {name.removeprefix(family.prefix): weight for name, weight in file.items()}
    depth = size(config, family.sizes["depth"], where)
    try:
        ours = {our: theirs.pop(their).float() for our, their in _names(family, depth)}
        positions = theirs.pop(f"{EMBEDDINGS}.position_embeddings.weight").float()
        if family.segments:  # one segment is all we embed, so its type is part of every position
            positions = positions + theirs.pop(f"{EMBEDDINGS}.token_type_embeddings.weight")[0]
    except KeyError as error:
        raise InvalidInput(f"{path} lacks {error}, which config.json asks for") from error
    if left := sorted(name for name in theirs if not name.startswith(family.unused)):
        raise InvalidInput(
            f"config.json has no place for {len(left)} weights of {path.name}: {left[0]!r}, ..."
        )
    first = size(config, "pad_token_id", where) + 1 if family.offset else 0
    shape = _shape(described, family, depth=depth, positions=len(positions) - first)
    ours["tokens.position.weight"] = positions[first : first + shape.max_length]
    with torch.device("meta"):  # sizes alone: damage is reported before memory is allocated
        model = TextEncoder(shape)
    ours |= {f"head.{name}": weight for name, weight in head.items()}
    for name, expected in model.state_dict().items():
        if ours[name].shape != expected.shape:
            raise InvalidInput(
                f"{path} does not fit config.json: {name} has shape {(*ours[name].shape,)} and "
                f"should have {(*expected.shape,)}"
            )
    model.load_state_dict(ours, assign=True)
    return model


def write(model: TextModel[TextEncoder], folder: Path) -> None:
    """Write the encoder and its tokenizer to `folder` so that transformers' BertModel reads them.

    Its `last_hidden_state` are then our tokens' states. The reader has to pool them: the format has
    no pooling, prompts or unit length. A factorised token table is multiplied
    out. Raises InvalidInput, before anything is written, when the encoder is not of the layout's
    form.
    """
    encoder, shape, sizes = model.encoder, model.encoder.shape, model.encoder.shape.transformer
    mapped = shape.dim is not None or shape.wide is not None or shape.head.dense
    if sizes.norm != "post" or mapped or not shape.positions:
        raise InvalidInput(
            "transformers' BERT is post-norm, has learned positions and no place for what maps its "
            f"states to an embedding; got norm {sizes.norm!r}, positions {shape.positions}, dim "
            f"{shape.dim}, wide {shape.wide} and {len(shape.head.dense)} dense layers"
        )
    save_pretrained.refuse_attention(encoder.transformer, "BERT")
    tokenizer = Tokenizer.from_str(model.tokenizer.decode())
    padding = tokenizer.padding["pad_id"] if tokenizer.padding else 0
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.max_length,
        "type_vocab_size": SEGMENTS,
        "pad_token_id": padding,
        **{theirs: getattr(sizes, our) for our, theirs in BERT.sizes.items()},
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": sizes.norm_eps,
    }
    with torch.no_grad():
        table = encoder.tokens.expand(encoder.tokens.table.weight)
    ours = {**encoder.state_dict(), "tokens.table.weight": table}
    weights = {their: ours[our] for our, their in _names(BERT, sizes.depth)}
    weights[f"{EMBEDDINGS}.position_embeddings.weight"] = ours["tokens.position.weight"]
    # Ours hold the one segment there is, so that theirs adds nothing.
    segments = torch.zeros(SEGMENTS, sizes.width)
    weights[f"{EMBEDDINGS}.token_type_embeddings.weight"] = segments
    save_pretrained.write(folder, config, weights)
    (folder / "tokenizer.json").write_bytes(model.tokenizer)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.max_length,
        "pad_token": tokenizer.id_to_token(padding),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _shape(described: Described, family: Family, *, depth: int, positions: int) -> TextConfig:
    config, where = described.config, described.root / "config.json"
    if positions < 1:
        raise InvalidInput(f"{where} leaves no position besides the padding's; got {positions}")
    return TextConfig(
        vocabulary=size(config, "vocab_size", where),
        max_length=min(described.limit or positions, positions),
        transformer=TransformerConfig(
            width=size(config, family.sizes["width"], where),
            depth=depth,
            heads=size(config, family.sizes["heads"], where),
            hidden=size(config, family.sizes["hidden"], where),
            norm_eps=epsilon(config.get("layer_norm_eps", 1e-12), where),
        ),
        head=described.head,
        normalized=described.space.normalized,
    )


def _names(family: Family, depth: int) -> Iterator[tuple[str, str]]:
    """Pair our names of weights with theirs, but for positions."""
    yield "tokens.table.weight", f"{EMBEDDINGS}.word_embeddings.weight"
    for part in ("weight", "bias"):
        yield f"tokens.norm.{part}", f"{EMBEDDINGS}.LayerNorm.{part}"
    for layer in range(depth):
        for our, their in family.block.items():
            for part in ("weight", "bias"):
                yield (
                    f"transformer.blocks.{layer}.{our}.{part}",
                    f"{family.layers}.{layer}.{their}.{part}",
                )
