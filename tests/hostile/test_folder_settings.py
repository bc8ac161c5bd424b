"""Every setting of a folder gives what sentence-transformers gives, or is refused by its name."""

import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attar.errors import AttarError, InvalidInput
from attar.inputs import TextInput
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.encoders.text import TextNetwork
from attar.training.huggingface import loading
from attar.training.probes.text_retrieval import embed
from benchmarks.hostile.folder_settings import (
    CONFIG,
    REFUSED,
    SETTINGS,
    TEXTS,
    TOKENIZERS,
    Setting,
    folder,
    put,
)
from benchmarks.support.families import libraries

ROLES = {"query": "query", "passage": "document"}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folders")


def changed(setting: Setting, root: Path, to: Path) -> Path:
    """Copy the family's folder and change the setting; weights are linked."""
    source = folder(setting.family, root)
    shutil.copytree(source, to, ignore=shutil.ignore_patterns("*.safetensors"))
    (to / "model.safetensors").symlink_to(source / "model.safetensors")
    setting.change(to)
    return to


def ours(
    model: TextModel[TextNetwork], texts: Sequence[str], role: str
) -> list[NDArray[np.int64] | None]:
    """Give each text's ids as the runtime makes them; None where it refuses the text."""
    encoder = model.encoder
    host = TextInput(model.tokenizer, max_length=encoder.max_length, prompts=model.prompts)
    rows: list[NDArray[np.int64] | None] = []
    for text in texts:
        try:
            (row,) = host.prepare([text], role=role, truncation="truncate")
        except AttarError:
            rows.append(None)
        else:
            rows.append(row.arrays[0])
    return rows


def theirs(library: Any, texts: Sequence[str], role: str) -> list[list[int]]:
    prompt = library.prompts.get(ROLES[role])
    given = library.preprocess(list(texts), prompt=prompt)
    pairs = zip(given["input_ids"], given["attention_mask"], strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in pairs]


def same_ids(model: TextModel[TextNetwork], library: Any, texts: Sequence[str], role: str) -> Any:
    """Hold ids to the library's, and give those of the texts that have any."""
    rows = ours(model, texts, role)
    for text, mine, its in zip(texts, rows, theirs(library, texts, role), strict=True):
        assert (mine.tolist() if mine is not None else []) == its, text
    return [row for row in rows if row is not None]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_what_a_folder_says_is_done(setting: Setting, root: Path, tmp_path: Path) -> None:
    path = changed(setting, root, tmp_path / "theirs")
    with libraries() as (_, package):
        library = package.SentenceTransformer(str(path), device="cpu")
        model = loading.read(path)
        for role in ROLES:
            rows = same_ids(model, library, TEXTS, role)
            # One at a time: a batch of theirs pads, which may round differently.
            kept = [
                text for text, ids in zip(TEXTS, theirs(library, TEXTS, role), strict=True) if ids
            ]
            encode = library.encode_query if role == "query" else library.encode_document
            vectors = encode(kept, batch_size=1, show_progress_bar=False)
            np.testing.assert_allclose(embed(model.encoder, rows), vectors, rtol=0, atol=1e-5)
    base = loading.read(folder(setting.family, root))
    before = [None if row is None else row.tolist() for row in ours(base, TEXTS, "query")]
    after = [None if row is None else row.tolist() for row in ours(model, TEXTS, "query")]
    assert (after == before) is setting.same


@pytest.mark.parametrize("setting", REFUSED, ids=str)
def test_what_cannot_be_done_is_refused_by_name(
    setting: Setting, root: Path, tmp_path: Path
) -> None:
    path = changed(setting, root, tmp_path / "theirs")
    with libraries(), pytest.raises(InvalidInput) as refusal:
        loading.read(path)
    assert setting.refusal in str(refusal.value)
    assert "\n" not in str(refusal.value)


FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "do_lower_case": st.booleans(),
        "strip_accents": st.none() | st.booleans(),
        "tokenize_chinese_chars": st.booleans(),
        "add_prefix_space": st.booleans(),
        "truncation_side": st.sampled_from(["left", "right"]),
        "model_max_length": st.integers(3, 20),
        "extra_special_tokens": st.lists(st.sampled_from(["cat", "<x>", "e"]), unique=True),
        "split_special_tokens": st.booleans(),
    },
)
WILD = st.text(st.characters(codec="utf-8"), max_size=40)
KNOWN = st.lists(st.sampled_from(["cat", " ", "É", "東", "<s>", "[MASK]", "\u200b", "the"])).map(
    "".join
)
NUMBER = count()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    family=st.sampled_from(sorted(TOKENIZERS)),
    flags=FLAGS,
    texts=st.lists(WILD | KNOWN, min_size=1, max_size=8),
)
def test_any_settings_and_texts_give_their_ids_or_are_refused(
    root: Path, tmp_path: Path, family: str, flags: dict[str, Any], texts: list[str]
) -> None:
    setting = Setting(family=family, name="drawn", change=put(CONFIG, **flags))
    path = changed(setting, root, tmp_path / f"{next(NUMBER)}")
    with libraries() as (_, package):
        try:
            model = loading.read(path)
        except InvalidInput:
            assume(flags.get("split_special_tokens") is True)
            return
        same_ids(model, package.SentenceTransformer(str(path), device="cpu"), texts, "passage")
