"""An encoder is adapted to documents: what it gains, what it keeps, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar.errors import InvalidInput
from attar.training import adapt
from attar.training.adaptation.pair_split import documents_of, make_pairs
from attar.training.checkpoints import encoder_folder
from attar.training.probes.text_retrieval import embed
from benchmarks.support.teachers import bert_folder

from ..support.students import MAX_LENGTH, SYLLABLES, embed_in_torch, trained

RUN = {"rule": "title_and_body", "steps": 30}


def words(count: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(SYLLABLES, size=3)) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an encoder, documents of five files, whose titles are half in their texts, and more."""
    root = tmp_path_factory.mktemp("adapting")
    encoder_folder.save(trained(), root / "base")
    (root / "docs").mkdir()
    for file in range(20):
        sections = []
        for section in range(6):
            title = words(6, seed=100 * file + section)
            text = [*title[:3], *words(12, seed=7000 + 100 * file + section)]
            sections.append(f"## {' '.join(title)}\n\n{' '.join(text)}.\n")
        (root / "docs" / f"{file}.md").write_text("\n".join(sections), "utf-8")
    general = (" ".join(words(8, seed=9000 + line)) for line in range(30))
    (root / "general.txt").write_text("\n".join(general), "utf-8")
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return adapted(folder, folder / "run")


def adapted(folder: Path, out: Path, **options: Any) -> Path:
    data, general = str(folder / "docs"), folder / "general.txt"
    return adapt(folder / "base", out, **{"data": data, "general": general, **RUN, **options})


def report_of(run: Path) -> Any:
    return json.loads((run / "report.json").read_text("utf-8"))


def test_an_adapted_encoder_says_what_it_was_made_of(run: Path) -> None:
    model = encoder_folder.load_text(run)
    assert model.licence == trained().licence
    assert model.prompts == trained().prompts
    assert model.lineage["recipe"] == "adapt"
    assert model.lineage["rule"] == "title_and_body"
    assert model.lineage["length"] == MAX_LENGTH
    assert {"data", "base", "general", "settings", "paper", "steps"} <= model.lineage.keys()


def test_the_report_has_the_gain_at_home_and_the_agreement_abroad(run: Path) -> None:
    report = report_of(run)
    assert report["home"].keys() == {"recall_at_1", "recall_at_10", "mrr"}
    for figures in report["home"].values():
        for limits in figures.values():
            assert limits["low"] <= limits["value"] <= limits["high"]
        gain = figures["after"]["value"] - figures["before"]["value"]
        assert figures["gain"]["value"] == pytest.approx(gain)
    assert report["abroad"]["texts"] == "general.txt"
    assert report["abroad"]["count"] == 30
    assert report["abroad"]["spearman"] >= 0.9
    shares = [trial["share"] for trial in report["soup"]["trials"]]
    assert shares == [0, 0.25, 0.5, 0.75, 1]
    assert report["pairs"]["passages"] >= report["pairs"]["train"] > report["pairs"]["test"] > 0


def test_the_same_seed_gives_the_same_weights_and_another_run_is_refused(
    folder: Path, run: Path, tmp_path: Path
) -> None:
    again = adapted(folder, tmp_path / "again")
    texts = ["ba ko ri", "mu te zan pol"]
    first, second = (encoder_folder.load_text(path).encoder for path in (run, again))
    assert np.array_equal(embed_in_torch(first, texts), embed_in_torch(second, texts))
    assert report_of(again) == report_of(run)
    with pytest.raises(InvalidInput, match=r'rule was "title_and_body" and is "keyword_query"'):
        adapted(folder, again, rule="keyword_query")
    with pytest.raises(InvalidInput, match="length was 24 and is 8"):
        adapted(folder, again, length=8)


def test_no_file_has_pairs_on_two_sides(folder: Path) -> None:
    pairs = make_pairs(documents_of(str(folder / "docs")), "title_and_body", seed=0)
    groups = [
        {pair.package for pair in part} for part in (pairs.train, pairs.validation, pairs.test)
    ]
    assert all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_texts_that_are_cut_are_counted(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "attar.training"):
        adapted(folder, tmp_path / "short", length=8, steps=1)
    assert "passages have more than 8 tokens, and are cut there" in caplog.text


def test_pairs_that_a_rule_made_are_filtered_and_those_of_an_author_are_not(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "attar.training"):
        adapted(folder, tmp_path / "titles", rule="title_and_body", steps=1)
        assert "consistency:" not in caplog.text
        adapted(folder, tmp_path / "keywords", rule="keyword_query", steps=1)
    assert "consistency:" in caplog.text


def test_an_embedding_may_be_cut_to_the_widths_that_it_learned(
    folder: Path, tmp_path: Path
) -> None:
    out = adapted(folder, tmp_path / "narrow", widths=(16, 8), steps=1)
    assert encoder_folder.load_text(out).dims == (8, 16)


def test_a_sentence_transformers_folder_is_adapted(folder: Path, tmp_path: Path) -> None:
    base = bert_folder(tmp_path / "bert")
    out = adapt(
        base,
        tmp_path / "run",
        data=str(folder / "docs"),
        general=folder / "general.txt",
        rule="title_and_body",
        steps=1,
    )
    model = encoder_folder.load_text(out)
    assert embed(model.encoder, [np.array([2, 3])]).shape == (1, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "titles"}, r"there is no rule 'titles'; give one of title_and_body, "),
        ({"length": 25}, r"length must be in \[1, 24\], the tokens that the base reads; got 25"),
        ({"widths": (64,)}, r"widths must be in \[1, 32\].* got \(64,\)"),
        ({"layers": 3}, r"layers must be in \[1, 2\], those of the base; got 3"),
        ({"rule": "neighbouring_passages"}, r"give more documents than .*docs, or another rule"),
    ],
    ids=["rule", "length", "widths", "layers", "no pairs"],
)
def test_what_cannot_be_is_named_before_a_step(
    folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        adapted(folder, tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_too_few_general_texts_are_refused(folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("ba ko\nba ko\n", "utf-8")
    with pytest.raises(InvalidInput, match=r"few\.txt: 1 general texts, and three are the least"):
        adapted(folder, tmp_path / "none", general=few)
