"""Asymmetric search: a student's queries in a collection that its teacher embedded."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import attar
from attar import Client, InvalidInput, NotFound, SpaceMismatch
from attar.client import calls
from attar.values import Model
from benchmarks.support.bundles import WORDS, compatible_bundle, tiny_bundle
from benchmarks.support.servers import serving, settings

TEXTS = [f"the {word} and the {other}" for word, other in zip(WORDS, WORDS[5:], strict=False)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher, its student, and the teacher's weights in a bundle that declares nothing."""
    folder = tmp_path_factory.mktemp("bundles")
    teacher = tiny_bundle(folder / "teacher.attar", name="teacher", dims=(8, 16))
    return {
        "teacher": teacher,
        "student": compatible_bundle(folder / "student.attar", teacher),
        "stranger": tiny_bundle(
            folder / "stranger.attar", name="stranger", dims=(8, 16), max_length=8
        ),
    }


@pytest.fixture
def client(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Client]:
    """A server of all three, with a collection that the teacher indexed."""
    chosen = settings(*bundles.values(), data_dir=tmp_path / "data")
    with serving(chosen) as target, Client(target) as connected:
        connected.create_collection("docs", model="teacher")
        connected.upsert("docs", range(len(TEXTS)), TEXTS)
        yield connected


def space(bundles: dict[str, Path], name: str) -> str:
    return attar.Bundle.open(bundles[name]).manifest.fingerprint


def test_a_device_searches_what_the_teacher_indexed(
    client: Client, bundles: dict[str, Path]
) -> None:
    on_device = attar.load(bundles["student"], threads=1).embed(TEXTS, role="query")
    results = client.search("docs", vectors=on_device, limit=1)
    assert [hits[0].id for hits in results.hits] == list(range(len(TEXTS)))
    assert results.fingerprint == space(bundles, "teacher") != on_device.fingerprint
    (batched,) = client.search_batch([calls.search("docs", vectors=on_device, limit=1)])
    assert batched == results


def test_a_served_student_embeds_the_queries(client: Client, bundles: dict[str, Path]) -> None:
    by_vectors = client.search("docs", vectors=client.embed(TEXTS, model="student", role="query"))
    by_text = client.search("docs", TEXTS, model="student")
    assert by_text.fingerprint == space(bundles, "teacher")
    for hits, others in zip(by_text.hits, by_vectors.hits, strict=True):
        assert [hit.id for hit in hits] == [hit.id for hit in others]
        np.testing.assert_allclose(
            [hit.score for hit in hits], [hit.score for hit in others], atol=1e-5
        )
    teachers = client.search("docs", TEXTS, model="teacher")
    assert teachers == client.search("docs", TEXTS)
    assert [hits[0].score for hits in teachers.hits] != [hits[0].score for hits in by_text.hits]


def test_queries_are_cut_to_the_width_of_the_collection(
    client: Client, bundles: dict[str, Path]
) -> None:
    client.create_collection("narrow", model="teacher", dims=8)
    client.upsert("narrow", range(len(TEXTS)), TEXTS)
    encoder = attar.load(bundles["student"], threads=1)
    full, cut = (encoder.embed(TEXTS, dims=dims) for dims in (None, 8))
    by_text = client.search("narrow", TEXTS, model="student", role="passage")
    for vectors in (full, cut):
        by_vectors = client.search("narrow", vectors=vectors)
        for hits, others in zip(by_vectors.hits, by_text.hits, strict=True):
            assert [hit.id for hit in hits] == [hit.id for hit in others]


def test_no_undeclared_space_searches(client: Client, bundles: dict[str, Path]) -> None:
    vectors = attar.load(bundles["stranger"], threads=1).embed(TEXTS)
    both = f"docs is in the space {space(bundles, 'teacher')}, .*{vectors.fingerprint}"
    with pytest.raises(SpaceMismatch, match=both):
        client.search("docs", vectors=vectors)
    with pytest.raises(SpaceMismatch, match=both):
        client.search("docs", TEXTS, model="stranger")
    (outcome,) = client.search_batch([calls.search("docs", vectors=vectors)], partial=True)
    assert isinstance(outcome, SpaceMismatch)
    with pytest.raises(NotFound, match="no model 'none'"):
        client.search("docs", TEXTS, model="none")


def test_a_declaration_does_not_hold_the_other_way(
    client: Client, bundles: dict[str, Path]
) -> None:
    client.create_collection("students", model="student")
    client.upsert("students", [1], ["the cat"])
    with pytest.raises(SpaceMismatch, match="students is in the space"):
        client.search("students", ["the cat"], model="teacher")
    with pytest.raises(SpaceMismatch, match="students is in the space"):
        client.search("students", vectors=attar.load(bundles["teacher"]).embed(["the cat"]))


def test_only_the_teacher_writes(client: Client, bundles: dict[str, Path]) -> None:
    vectors = attar.load(bundles["student"], threads=1).embed(["the cat"])
    both = f"docs is in the space {space(bundles, 'teacher')}, .*{vectors.fingerprint}"
    with pytest.raises(SpaceMismatch, match=both):
        client.upsert("docs", [99], vectors=vectors)
    with pytest.raises(InvalidInput, match="the vectors are of"):  # the teacher's name on them
        client.upsert("docs", [99], vectors=vectors, fingerprint=space(bundles, "teacher"))
    assert client.count("docs") == len(TEXTS)


def test_a_student_searches_only_while_it_is_served(
    client: Client, bundles: dict[str, Path]
) -> None:
    vectors = attar.load(bundles["student"], threads=1).embed(["the cat"])
    client.search("docs", vectors=vectors)
    client.unload_model("student")
    with pytest.raises(SpaceMismatch, match="do not declare that space in compatible_with"):
        client.search("docs", vectors=vectors)
    client.load_model("student")
    client.unload_model("teacher")
    assert client.search("docs", vectors=vectors)[0]
    assert client.search("docs", ["the cat"], model="student")[0]
    with pytest.raises(NotFound, match="needs model 'teacher'"):
        client.search("docs", ["the cat"])


def test_a_model_embeds_items_only(client: Client, bundles: dict[str, Path]) -> None:
    vectors = attar.load(bundles["student"], threads=1).embed(["the cat"])
    with pytest.raises(InvalidInput, match="model is 'student', which embeds items"):
        client.search("docs", vectors=vectors, model="student")
    with pytest.raises(InvalidInput, match="model is 'student', which embeds items"):
        client.search("docs", ids=[1], model="student")


def test_vectors_of_no_declared_width_are_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    narrow = tiny_bundle(tmp_path / "narrow.attar", name="narrow", dims=(4, 16))
    student = compatible_bundle(tmp_path / "student.attar", narrow)
    chosen = settings(bundles["teacher"], narrow, student, data_dir=tmp_path / "data")
    with serving(chosen) as target, Client(target) as client:
        client.create_collection("docs", model="narrow", dims=4)
        client.upsert("docs", [1], ["the cat"])
        vectors = attar.load(student, threads=1).embed(["the cat"], dims=4)
        assert client.search("docs", vectors=vectors)[0][0].id == 1
        with pytest.raises(InvalidInput, match="12"):
            client.search("docs", vectors=np.ones((1, 12)), fingerprint=vectors.fingerprint)


def test_info_publishes_what_a_model_may_search(client: Client, bundles: dict[str, Path]) -> None:
    models: dict[str, Model] = {model.name: model for model in client.info().models}
    declared = attar.Bundle.open(bundles["student"]).manifest.compatible_with
    assert models["student"].compatible_with == declared
    assert models["teacher"].compatible_with == ()
