"""upsert and search: a folder of documents becomes a collection that a person can search."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from attar import Client
from benchmarks.support.servers import serving, settings

from ..support.commands import Attar

CATS = "# Cats\n\nThe cat sat on the mat. A cat has a tail.\n\n# Dogs\n\nA dog runs in the rain.\n"


@pytest.fixture(scope="module")
def server(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    with serving(settings(bundle_path, data_dir=data, max_items=3)) as address:
        yield address


def payloads(server: str, collection: str) -> list[dict[str, object]]:
    with Client(server) as client:
        page = client.scroll(collection, limit=3)
        found = [point.payload for point in page.points]
        while page.cursor:
            page = client.scroll(collection, limit=3, cursor=page.cursor)
            found += [point.payload for point in page.points]
    return sorted(found, key=lambda payload: (payload["group"], payload["passage"]))


def test_a_folder_becomes_points_of_whole_sentences_that_say_where_they_are_from(
    attar_: Attar, server: str, tmp_path: Path
) -> None:
    (tmp_path / "pets.md").write_text(CATS)
    ran = attar_("upsert", server, "pets", tmp_path, "--words", 7)

    assert ran.status == 0, ran.err
    assert "3 passages are written, and 0 were there; pets has 3 points" in ran.out
    first, second, third = payloads(server, "pets")
    assert first == {
        "document": "pets.md#1",
        "group": "pets.md",
        "title": "Cats",
        "passage": 0,
        "start": 0,
        "end": 23,
        "text": "The cat sat on the mat.",
    }
    assert (second["passage"], second["text"]) == (1, "A cat has a tail.")
    assert (third["title"], third["text"]) == ("Cats: Dogs", "A dog runs in the rain.")


def test_a_passage_is_written_over_and_those_that_its_document_has_no_more_are_deleted(
    attar_: Attar, server: str, tmp_path: Path
) -> None:
    old, other = tmp_path / "a.txt", tmp_path / "b.txt"
    old.write_text("The cat sat. The dog ran. The sun is red.")
    other.write_text("The rain falls. The sky is blue.")
    assert attar_("upsert", server, "changing", tmp_path, "--words", 4).status == 0
    again = attar_("upsert", server, "changing", tmp_path, "--words", 4)
    assert "0 passages are written, and 5 were there; changing has 5 points" in again.out, again.err
    other.unlink()
    old.write_text("The cat slept.")

    ran = attar_("upsert", server, "changing", tmp_path, "--words", 4)

    assert "1 passages are written, and 0 were there; changing has 3 points" in ran.out, ran.err
    texts = [payload["text"] for payload in payloads(server, "changing")]
    assert texts == ["The cat slept.", "The rain falls.", "The sky is blue."]


def test_a_section_that_a_file_has_no_more_is_not_found(
    attar_: Attar, server: str, tmp_path: Path
) -> None:
    (tmp_path / "pets.md").write_text(CATS)
    assert attar_("upsert", server, "sections", tmp_path).status == 0
    (tmp_path / "pets.md").write_text(CATS.partition("\n# Dogs")[0])

    assert attar_("upsert", server, "sections", tmp_path).status == 0

    assert [payload["title"] for payload in payloads(server, "sections")] == ["Cats"]


def test_passages_that_the_model_cannot_read_whole_are_counted(
    attar_: Attar, server: str, tmp_path: Path
) -> None:
    (tmp_path / "long.txt").write_text("the cat " * 50 + "sat.")
    ran = attar_("upsert", server, "long", tmp_path)
    assert "longer than the model reads: 1 passages" in ran.out
    assert "choose fewer --words than 100" in ran.out


def test_a_search_prints_the_score_the_place_and_the_text(
    attar_: Attar, server: str, tmp_path: Path
) -> None:
    (tmp_path / "pets.md").write_text(CATS)
    assert attar_("upsert", server, "found", tmp_path).status == 0

    ran = attar_("search", server, "found", "A dog runs in the rain.", "--limit", 1)
    as_json = attar_("search", server, "found", "a cat", "--json", "--filter", '{"title": "Cats"}')

    assert ran.status == 0, ran.err
    score, place = ran.out.split()[:2]
    assert 0 < float(score) <= 1
    assert place == "pets.md#2"
    assert "Dogs\n       A dog runs in the rain." in ran.out
    (hit,) = map(json.loads, as_json.out.splitlines())
    assert hit["payload"]["title"] == "Cats"


def test_a_terminal_obeys_no_payload(attar_: Attar, server: str) -> None:
    with Client(server) as client:
        client.create_collection("hostile")
        payload = {"text": "a \x1b[2Jcat\r", "title": "\x1b]0;x\x07", "document": "a\nb"}
        client.upsert("hostile", [1], ["a cat"], payloads=[payload])
        client.upsert("hostile", [2], ["the sun"], payloads=[{"about": "the sky"}])

    ran = attar_("search", server, "hostile", "a cat")

    assert ran.status == 0, ran.err
    assert not {*ran.out} & {*"\x1b\x07\r"}
    assert "a b   ]0;x" in ran.out
    assert '{"about": "the sky"}' in ran.out


def test_a_key_comes_from_the_environment(
    attar_: Attar, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTAR_KEY", "")
    ran = attar_("search", server, "pets", "a cat")
    assert ran.status == 2
    assert "the key is empty; check how it was read" in ran.err


def test_a_collection_with_a_language_is_searched_by_words(
    attar_: Attar, server: str, tmp_path: Path
) -> None:
    (tmp_path / "pets.md").write_text(CATS)
    written = attar_("upsert", server, "worded", tmp_path, "--language", "english")
    assert written.status == 0, written.err
    again = attar_("upsert", server, "worded", tmp_path)
    assert again.status == 0, again.err

    by_words = attar_("search", server, "worded", "running dogs", "--mode", "keyword", "--json")
    fused = attar_("search", server, "worded", "running dogs", "--mode", "hybrid", "--json")
    (hit,) = map(json.loads, by_words.out.splitlines())
    assert hit["payload"]["title"] == "Cats: Dogs"
    assert json.loads(fused.out.splitlines()[0])["parts"]["keyword_rank"] == 1

    other = attar_("upsert", server, "worded", tmp_path, "--language", "none")
    assert other.status == 2
    assert "leave --language out" in other.err
    unknown = attar_("search", server, "worded", "dogs", "--mode", "sparse")
    assert unknown.status == 2
    assert "expected one of dense, keyword, hybrid" in unknown.err
