"""A bad folder is refused in one line that names its fault; nothing is written and nothing runs."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.training.huggingface import loading
from benchmarks.hostile.folders import (
    CASES,
    CONFIG,
    MODULES,
    POOLING,
    PROMPTS,
    SENTENCES,
    Case,
    attempt,
)
from benchmarks.support.teachers import WIDTH, bert_folder, write_json


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_folder_is_reported_and_nothing_is_written(case: Case, tmp_path: Path) -> None:
    outcome = attempt(case, tmp_path)
    assert outcome.status == 2
    assert case.refusal in outcome.message
    assert outcome.message.startswith("attar: ")
    assert len(outcome.message.splitlines()) == 1
    assert outcome.written == ()


KEYS = {
    CONFIG: (
        "model_type",
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "layer_norm_eps",
        "hidden_act",
        "auto_map",
        "_name_or_path",
    ),
    POOLING: ("pooling_mode", "pooling_mode_mean_tokens", "include_prompt"),
    SENTENCES: ("max_seq_length", "do_lower_case", "module_output_name", "tokenizer_args"),
    PROMPTS: ("prompts", "default_prompt_name", "truncate_dim", "model_type"),
    "tokenizer_config.json": ("model_max_length", "auto_map"),
    "2_Normalize/config.json": ("module_input_name",),
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("good") / "theirs")


@settings(max_examples=150, deadline=None)
@given(
    where=st.sampled_from([(name, key) for name, keys in KEYS.items() for key in keys]),
    value=ANYTHING,
)
def test_whatever_stands_in_a_file_is_read_or_refused(
    good: Path, where: tuple[str, str], value: Any
) -> None:
    name, key = where
    path = good / name
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    write_json(path, {**json.loads(before or b"{}"), key: value})
    try:
        with suppress(InvalidInput):
            assert loading.read(good).encoder.dim == WIDTH
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@settings(max_examples=50, deadline=None)
@given(modules=ANYTHING | st.lists(st.fixed_dictionaries({"type": ANYTHING, "path": ANYTHING})))
def test_whatever_modules_are_listed_is_refused(good: Path, modules: Any) -> None:
    path = good / MODULES
    before = path.read_bytes()
    try:
        write_json(path, modules)
        with pytest.raises(InvalidInput, match=r"modules\.json|uses the module"):
            loading.read(good)
    finally:
        path.write_bytes(before)
