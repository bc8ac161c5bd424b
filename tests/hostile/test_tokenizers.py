"""A tokenizer cannot make far more of a text than it is."""

import json
from pathlib import Path

import pytest

import attar
from attar.errors import BundleRefused
from benchmarks.hostile.tokenizers import CASES, SPELLED, Case
from benchmarks.support.bundles import text_files, text_manifest


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_tokenizer_that_multiplies_a_text_is_refused_in_words(case: Case, tmp_path: Path) -> None:
    manifest = text_manifest()
    files = text_files(manifest)
    tokenizer = json.loads(files["tokenizer.json"])
    files["tokenizer.json"] = json.dumps({**tokenizer, **case.changes}).encode()
    path = attar.Bundle.write(tmp_path / "x.attar", manifest, files).path

    if not case.refusal:
        assert attar.load(path, threads=1).modality == "text"
        return
    with pytest.raises(BundleRefused) as refused:
        attar.load(path, threads=1)
    assert refused.value.code == "tokenizer"
    assert case.refusal in str(refused.value)


@pytest.mark.parametrize(
    ("name", "after"),
    [("precompiled_charsmap", ""), (r"\u0070recompiled_charsmap", ""),
     ("precompiled_charsmap", ', "normalizer": null')],
    ids=["plain", "escaped", "named twice"],
)  # fmt: skip
def test_a_map_of_characters_that_would_end_the_process_is_seen_however_it_is_spelled(
    name: str, after: str, tmp_path: Path
) -> None:
    manifest = text_manifest()
    files = text_files(manifest)
    tokenizer = json.loads(files["tokenizer.json"])
    bad = f'{{"type": "Precompiled", "{name}": "/////wAA"}}{after}'
    spelled = json.dumps({**tokenizer, "normalizer": "HERE"}).replace('"HERE"', bad)
    files["tokenizer.json"] = spelled.encode()
    path = attar.Bundle.write(tmp_path / "x.attar", manifest, files).path

    with pytest.raises(BundleRefused, match="says 4294967295 of its trie"):
        attar.load(path, threads=1)


@pytest.mark.parametrize(
    ("before", "message"), SPELLED, ids=["long number", "deep", "named twice", "no JSON"]
)
def test_what_python_cannot_read_hides_nothing_from_it(
    before: str, message: str, tmp_path: Path
) -> None:
    manifest = text_manifest()
    files = text_files(manifest)
    bad = f'"truncation": {before}, "normalizer": {{"type": "Precompiled", '
    bad += '"precompiled_charsmap": "/////wAA"}'
    files["tokenizer.json"] = f'{{{bad}, "model": {{}}}}'.encode()
    path = attar.Bundle.write(tmp_path / "x.attar", manifest, files).path

    with pytest.raises(BundleRefused) as refused:
        attar.load(path, threads=1)
    assert refused.value.code == "tokenizer"
    assert message in str(refused.value)
