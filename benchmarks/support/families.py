"""Tiny encoders of every family that can be imported, saved by the libraries that made them.

transformers builds each from its own configuration with random weights; sentence-transformers
saves its folders around them. Both are imported where they are used: seconds, and warnings.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from .bundles import WORDS

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # RoBERTa's places: padding is 1
VOCABULARY = (*SPECIALS, *WORDS)
WIDTH, LENGTH = 16, 12
PAIR_LENGTH = 24

SMALL: Mapping[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}

GROUPED: Mapping[str, Any] = {"num_key_value_heads": 1, "head_dim": 8}
RELATIVE: Mapping[str, Any] = {
    "relative_attention": True,
    "position_biased_input": False,
    "max_relative_positions": 8,
}
T5: Mapping[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "d_model": WIDTH,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 1,
    "num_heads": 2,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "bert": SMALL,
    "roberta": SMALL,
    "xlm-roberta": SMALL,
    "camembert": SMALL,
    "distilbert": {
        "vocab_size": len(VOCABULARY),
        "dim": WIDTH,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 24,
        "max_position_embeddings": 20,
        "pad_token_id": 1,
    },
    "mpnet": SMALL,
    # A window of two tokens either side, so that it is met within a text.
    "modernbert": {
        **SMALL,
        "num_hidden_layers": 2,
        "global_attn_every_n_layers": 2,
        "local_attention": 4,
        "cls_token_id": 0,
        "sep_token_id": 2,
    },
    "nomic_bert": SMALL,
    "gte": SMALL,
    "eurobert": {**SMALL, "num_key_value_heads": 1},
    "electra": {**SMALL, "embedding_size": 8},
    "albert": {**SMALL, "embedding_size": 8, "num_hidden_layers": 2},
    "deberta": {**SMALL, **RELATIVE, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {
        **SMALL,
        **RELATIVE,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
    "t5": T5,
    "mt5": {**T5, "feed_forward_proj": "gated-gelu"},
    "gemma3_text": {
        **SMALL,
        **GROUPED,
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 4,
        "use_bidirectional_attention": True,
    },
    "qwen2": {**SMALL, "num_key_value_heads": 1},
    "qwen3": {**SMALL, **GROUPED},
    "llama": {**SMALL, "num_key_value_heads": 1},
    "mistral": {**SMALL, **GROUPED, "sliding_window": 4},
}
"""The configuration of each by its `model_type`."""


@contextmanager
def libraries() -> Iterator[tuple[Any, Any]]:
    """Give transformers and sentence-transformers, offline and silent about one another."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is first imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sentence_transformers = pytest.importorskip("sentence_transformers")
        transformers: Any = import_module("transformers")
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        yield transformers, sentence_transformers


def plain_folder(
    root: Path,
    family: str,
    *,
    architecture: str = "AutoModel",
    padding_side: str = "right",
    words: Tokenizer | None = None,
    length: int = LENGTH,
    **changes: Any,
) -> Path:
    """Save a model with random weights, biases too, as transformers does, and its tokenizer."""
    names = ["input_ids", "attention_mask"]
    if words is not None and family == "bert":
        names.append("token_type_ids")
    with libraries() as (transformers, _):
        config = transformers.CONFIG_MAPPING[family](**{**FAMILIES[family], **changes})
        with torch.random.fork_rng():
            torch.manual_seed(len(family))
            model = getattr(transformers, architecture).from_config(config)
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.4)
        model.save_pretrained(root)
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=words or word_tokenizer(),
            bos_token="<s>",
            eos_token="</s>",
            cls_token="<s>",
            sep_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            mask_token="<mask>",
            model_max_length=length,
            model_input_names=names,
            padding_side=padding_side,
        )
        tokenizer.save_pretrained(root)
    return root


def pair_folder(
    root: Path, family: str, *, saved_by: Literal["transformers", "CrossEncoder"]
) -> Path:
    """Save a cross-encoder with random weights, and a tokenizer of pairs.

    BERT's tokenizer numbers the texts of a pair by 0 and 1, and the others' all by 0.
    """
    plain = root if saved_by == "transformers" else root.with_name(f"{root.name}-plain")
    plain_folder(
        plain,
        family,
        architecture="AutoModelForSequenceClassification",
        num_labels=1,
        max_position_embeddings=40,
        words=pair_tokenizer(segments=family == "bert"),
        length=PAIR_LENGTH,
    )
    if saved_by == "CrossEncoder":
        with libraries() as (_, library):
            library.CrossEncoder(str(plain), device="cpu").save_pretrained(
                str(root), create_model_card=False
            )
    return root


def sentence_folder(
    root: Path,
    family: str = "bert",
    *,
    pooling: str | Sequence[str] = "mean",
    dense: Sequence[tuple[int, torch.nn.Module]] = (),
    layer_norm: bool = False,
    normalize: bool = True,
    prompts: Mapping[str, str] | None = None,
    **changes: Any,
) -> Path:
    """Save a SentenceTransformer: the family's transformer, pooling, layers, unit length.

    With `layer_norm`, the dense layers are followed by dropout and a layer norm.
    """
    plain = plain_folder(root.with_name(f"{root.name}-plain"), family, **changes)
    with libraries() as (_, library):
        models: Any = import_module("sentence_transformers.models")  # its name in 5 and 6
        transformer = models.Transformer(str(plain))
        modules = [transformer, models.Pooling(WIDTH, pooling_mode=pooling)]
        width = WIDTH * (1 if isinstance(pooling, str) else len(pooling))
        for out, activation in dense:
            modules.append(models.Dense(width, out, activation_function=activation))
            width = out
        if layer_norm:
            norm = models.LayerNorm(width)
            torch.nn.init.normal_(norm.norm.weight, mean=1, std=0.4)
            modules += [models.Dropout(0.1), norm]
        if normalize:
            modules.append(models.Normalize())
        made = library.SentenceTransformer(modules=modules, device="cpu", prompts=prompts)
        made.save(str(root), create_model_card=False)
    return root


def static_folder(root: Path, *, normalize: bool = True, model2vec: bool = False) -> Path:
    """Save a StaticEmbedding with random rows, in one table or in the parts that model2vec has."""
    draw = torch.Generator().manual_seed(1)
    with libraries() as (_, library):
        models: Any = import_module("sentence_transformers.models")
        table = torch.randn(len(VOCABULARY), WIDTH, generator=draw)
        modules = [models.StaticEmbedding(word_tokenizer(), embedding_weights=table)]
        modules += [models.Normalize()] if normalize else []
        made = library.SentenceTransformer(modules=modules, device="cpu")
        made.save(str(root), create_model_card=False)
    if model2vec:
        (weights,) = root.rglob("model.safetensors")
        rows = torch.randint(0, 8, (len(VOCABULARY),), generator=draw)
        weight = torch.rand(len(VOCABULARY), generator=draw, dtype=torch.float64)
        parts = {"embeddings": table[:8].half(), "mapping": rows, "weights": weight}
        save_file(parts, weights)
    return root


def router_folder(root: Path) -> Path:
    """Save a Router whose queries have a static table, and whose documents have a transformer."""
    documents = plain_folder(root.with_name(f"{root.name}-plain"), "mpnet")
    draw = torch.Generator().manual_seed(2)
    with libraries() as (_, library):
        models: Any = import_module("sentence_transformers.models")
        table = torch.randn(len(VOCABULARY), WIDTH, generator=draw)
        router = models.Router.for_query_document(
            [models.StaticEmbedding(word_tokenizer(), embedding_weights=table)],
            [models.Transformer(str(documents)), models.Pooling(WIDTH, pooling_mode="cls")],
        )
        prompts = {"query": "sun ", "document": "cat "}
        made = library.SentenceTransformer(
            modules=[router, models.Normalize()], device="cpu", prompts=prompts
        )
        made.save(str(root), create_model_card=False)
    return root


def word_tokenizer() -> Tokenizer:
    """Give a tokenizer of whole words, with RoBERTa's special tokens."""
    vocabulary = {word: place for place, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def pair_tokenizer(*, segments: bool) -> Tokenizer:
    """Give that tokenizer with a template for pairs, as BERT's or as RoBERTa's."""
    tokenizer = word_tokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1" if segments else "<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer
