"""Attacks on searches by another model: false declarations, long names, swapped students."""

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

import attar
from attar import Client
from attar.client import calls
from attar.errors import NotFound, SpaceMismatch, Unavailable
from attar.v1 import collections_pb2 as col
from attar.v1 import item_pb2 as itm
from attar.values import SearchResults

from ..hostile.bundles import OTHER_SPACE, OWN, declared
from ..support.bundles import compatible_bundle, tiny_bundle
from .bundles import watching
from .counted import BYTES, Probe, refusals
from .graphs import reasons_of
from .ground import Attack, Outcome, attacked
from .identity import put_in_turn

SEARCH: Final = "attar.v1.Collections/Search"
SEARCHES: Final = 2048
TEXTS: Final = [f"the cat {' '.join(str(number))}" for number in range(64)]

FALSE: Final = {
    "a cosine of NaN": declared(cosine=math.nan),
    "an infinite recall": declared(recall_at_10=math.inf),
    "its own space": declared(fingerprint=OWN),
    "every space": declared(fingerprint="*"),
    "measured on another encoder": declared(query_fingerprint=OTHER_SPACE),
    "65 entries": declared(65),
    "12,000 entries": declared(12_000),
    "a cosine of a thousand digits": declared(cosine=10**1000),
}
"""Declarations that no export makes."""


def false_declarations(folder: Path) -> Outcome:
    """Put bundles into a watched folder that declare spaces falsely, then a sound one."""
    with watching(folder) as (server, client, models):
        for number, damage in enumerate(FALSE.values()):
            scratch = tiny_bundle(models / f".{number}", name=f"bad{number}")
            damage(scratch).rename(models / f"{number}.attar")
        reasons = reasons_of(client, len(FALSE))
        student = compatible_bundle(models / ".student", folder / "tiny.attar")
        student.rename(models / "student.attar")
        client.load_model("student", deadline_s=60)
        client.create_collection("docs", model="tiny")
        client.upsert("docs", range(len(TEXTS)), TEXTS)
        hits = client.search("docs", TEXTS, model="student", limit=1, role="passage").hits
        held = len(reasons) == len(FALSE) and all(hits)
        note = f"{len(reasons)} of {len(FALSE)} refused; a sound student searched: {all(hits)}"
        return server.outcome(held=held, note=note)


def long_names(folder: Path) -> Outcome:
    """Search by models and spaces whose names have megabytes."""
    return refusals(folder, _long_names())


def _long_names() -> Iterator[Probe]:
    texts = itm.Texts(values=["the cat"])
    create = col.CreateCollectionRequest(name="docs").SerializeToString()
    yield Probe("a collection", "attar.v1.Collections/Create", create, "")
    search = col.SearchRequest(collection="docs", texts=texts, model="a" * BYTES)
    yield Probe("a model", SEARCH, search.SerializeToString(), "no model")
    vectors = calls.search("docs", vectors=np.ones((1, 16)), fingerprint="a" * BYTES).request
    yield Probe("a space", SEARCH, vectors.SerializeToString(), "and the vectors are of")
    each = col.SearchRequest(collection="docs", texts=texts, model="a" * (BYTES // SEARCHES - 64))
    batch = col.SearchBatchRequest(searches=[each] * SEARCHES).SerializeToString()
    yield Probe("2,048 models", "attar.v1.Collections/SearchBatch", batch, "")


def searches_by_a_student(folder: Path) -> Outcome:
    """Send as many searches by another model as one call may have, again and again."""
    teacher = tiny_bundle(folder / "tiny.attar")
    student = compatible_bundle(folder / "student.attar", teacher)
    with (
        attacked(folder, student, bundle=teacher) as server,
        Client(server.server.target) as client,
    ):
        client.create_collection("docs", model="tiny")
        client.upsert("docs", range(len(TEXTS)), TEXTS)
        searches = [
            calls.search("docs", [TEXTS[number % len(TEXTS)]], model="student", limit=1)
            for number in range(SEARCHES)
        ]
        answers = [client.search_batch(searches, deadline_s=60) for _ in range(2)]
        every = [each for answer in answers for each in answer]
        found = sum(isinstance(each, SearchResults) and bool(each.hits[0]) for each in every)
        note = f"{found} of {len(every)} searches found a point"
        return server.outcome(held=found == len(every), note=note)


def student_swapped(folder: Path) -> Outcome:
    """Swap a student for a bundle of its name that declares nothing, while it searches."""
    teacher = tiny_bundle(folder / "tiny.attar")
    student = compatible_bundle(folder / "student", teacher)
    stranger = tiny_bundle(folder / "stranger", name="student", seed=7)
    models = folder / "models"
    models.mkdir()
    shutil.copytree(student, models / "student.attar")
    rows = [attar.load(path, threads=1).embed(TEXTS).vectors for path in (student, teacher)]
    scores = (rows[0] @ rows[1].T).max(axis=1)  # of the best hit of each text
    outcomes = Counter[str]()
    with (
        attacked(folder, "--model-repository", models, "--watch-s", 0.2, bundle=teacher) as server,
        Client(server.server.target) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        client.create_collection("docs", model="tiny")
        client.upsert("docs", range(len(TEXTS)), TEXTS)
        turns = [stranger, student]
        swapping = pool.submit(put_in_turn, server.server.target, models / "student.attar", turns)
        while not swapping.done():
            outcomes[_searched(client, scores)] += 1
        swapping.result()
        last = _searched(client, scores)
        held = not outcomes["wrong"] and outcomes["SpaceMismatch"] > 0 and last == "right"
        return server.outcome(held=held, note=f"{dict(outcomes)} while swapped {len(turns)} times")


def _searched(client: Client, scores: Any) -> str:
    """Search by the student; say whether the best scores are those of student and teacher."""
    try:
        answer = client.search("docs", TEXTS, model="student", limit=1, role="passage")
    except (SpaceMismatch, NotFound, Unavailable) as error:
        return type(error).__name__
    best = [hits[0].score for hits in answer.hits]
    return "right" if np.allclose(best, scores, atol=1e-4) else "wrong"


ATTACKS: Final = (
    Attack("bundles that declare spaces falsely", false_declarations),
    Attack("names of models and spaces of megabytes", long_names),
    Attack("2,048 searches by another model in one call", searches_by_a_student),
    Attack("a student swapped while it searches", student_swapped),
)
