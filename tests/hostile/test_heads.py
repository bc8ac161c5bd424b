"""Heads are right about the items they were fitted on, or refuse them; on a device and served."""

import asyncio
import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

import attar
from attar import AsyncClient, Client
from attar.bundle import Bundle
from attar.errors import BundleRefused, InvalidInput, SpaceMismatch
from attar.heads import METRICS, KnnAnomaly, LinearClassifier, Metric, read_head
from attar.server.collections.edge_process import StoreProcess
from attar.server.usecases.anomaly import Anomaly
from attar.server.usecases.classification import Classification, fit_classifier
from attar.server.usecases.collections import Collections
from attar.server.usecases.head_store import HeadStore
from benchmarks.hostile.heads import CLASSIFIERS, DETECTORS, DIMS, Classifier, Detector
from benchmarks.support.bundles import row_bundle, tiny_bundle
from benchmarks.support.servers import serving
from benchmarks.support.servers import settings as server_settings

from ..support.models import make, started

Door = Literal["head", "client", "asyncio"]
Call = Callable[..., Any]
SPACE = "sha256:one"
HALF_A_PAIR = "\ud800".encode("utf-32-le", "surrogatepass")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Serve the model of rows as they are, the one of unit rows, and one of texts."""
    folder = tmp_path_factory.mktemp("served")
    bundles = (
        row_bundle(folder / "rows.attar", dim=DIMS, normalized=False, name="rows"),
        row_bundle(folder / "units.attar", dim=DIMS, normalized=True, name="units"),
        tiny_bundle(folder / "tiny.attar"),
    )
    with serving(server_settings(*bundles, data_dir=folder / "data")) as target:
        yield target, folder


def through(door: Door, target: str) -> Call:
    """Give a function that calls a method of one of the clients."""

    def call(method: str, *arguments: Any, **options: Any) -> Any:
        if door == "client":
            with Client(target) as client:
                return getattr(client, method)(*arguments, **options)

        async def ask() -> Any:
            async with AsyncClient(target) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(ask())

    return call


# -------------------------------------------------------------------------- detectors


def detected(case: Detector, door: Door, target: str) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Fit and score: the scores, which are anomalies, and where the line is."""
    if door == "head":
        fitted = KnnAnomaly.fit(
            case.items, model="m", fingerprint=SPACE, metric=case.metric, **case.options
        )
        head = KnnAnomaly.from_bytes(fitted.to_bytes())
        scores = head.score(case.queries, fingerprint=SPACE)
        return scores, head.anomalies(scores), head.threshold
    call = through(door, target)
    call("fit_anomaly", "one", case.items, model="rows", metric=case.metric, **case.options)
    try:
        scored = call("score_anomaly", "one", case.queries)
    finally:
        call("delete_detector", "one")
    return scored.scores, scored.anomalies, scored.threshold


@pytest.mark.parametrize("door", ["head", "client", "asyncio"])
@pytest.mark.parametrize("case", DETECTORS, ids=str)
def test_a_detector_is_right_about_its_items_or_refuses_them(
    case: Detector, door: Door, served: tuple[str, Path]
) -> None:
    if case.refused:
        with pytest.raises(InvalidInput, match=case.refused):
            detected(case, door, served[0])
        return
    scores, anomalies, threshold = detected(case, door, served[0])
    np.testing.assert_allclose(scores, case.scores, rtol=2e-6, atol=2e-6 * min(case.scores[-1], 1))
    assert (scores >= 0).all()
    assert np.isfinite(scores).all()
    assert scores.max() <= (2 if case.metric == "cosine" else np.inf)
    assert anomalies.tolist() == list(case.anomalies)
    assert (scores > np.float32(threshold)).tolist() == list(case.anomalies)


POINTS = arrays(
    np.float32, st.tuples(st.integers(1, 6), st.just(DIMS)), elements=st.integers(-3, 3)
).filter(lambda places: bool(places.any(axis=1).all()))


@settings(max_examples=60)
@given(POINTS, st.sampled_from(METRICS), st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_no_more_than_the_target_of_exchangeable_items_are_anomalies(
    points: NDArray[np.float32], metric: Metric, target: float, random: Any
) -> None:
    """Exact, without a margin: of c + 1 exchangeable items each is the new one with equal chance.

    Of a few places most items are equal, so that nearly all scores are ties.
    """
    held_out = max(2, int(np.ceil(1 / target)))
    drawn = points[[random.randrange(len(points)) for _ in range(held_out + 11)]]
    noise = np.random.default_rng(random.randrange(99)).uniform(-1, 1, drawn.shape)
    items = (drawn * (1 + 1e-7 * noise)).astype(np.float32)  # as of another batch
    references = items[held_out + 1 :]
    if metric == "cosine":
        references = references / np.linalg.norm(references, axis=1, keepdims=True)
    nothing = np.zeros(0, np.float32)
    bare = KnnAnomaly(references, nothing, 3, target, "m", SPACE, metric)
    scores = bare.score(items[: held_out + 1], fingerprint=SPACE)
    called = 0
    for new in range(held_out + 1):
        others = np.sort(np.delete(scores, new))
        head = KnnAnomaly(references, others, 3, target, "m", SPACE, metric)
        p = float(head.p_values(scores[[new]])[0])
        assert 1 / (held_out + 1) <= p * (1 + 1e-6) <= 1 + 1e-6
        assert head.anomalies(scores[[new]])[0] == (
            round(p * (held_out + 1)) / (held_out + 1) <= target
        )
        called += int(head.anomalies(scores[[new]])[0])
    assert called <= target * (held_out + 1)


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_the_mean_distances_of_scikit_learn(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    # More of both than are compared at once.
    references = rng.normal(size=(8200, DIMS)).astype(np.float32) + np.float32(3)
    queries = rng.normal(size=(515, DIMS)).astype(np.float32) + np.float32(3)
    model = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute")
    expected = model.fit(references.astype(float)).kneighbors(queries.astype(float))[0]
    if metric == "cosine":
        references /= np.linalg.norm(references, axis=1, keepdims=True)
    head = KnnAnomaly(references, np.zeros(1, np.float32), 7, 0.5, "m", SPACE, metric)
    found = head.score(queries, fingerprint=SPACE)
    np.testing.assert_allclose(found, expected.mean(axis=1), atol=2e-6)


ITEMS = arrays(np.float32, (40, DIMS), elements=st.floats(-100, 100, width=32))


@settings(max_examples=30)
@given(ITEMS, st.integers(-100, 100))
def test_cosine_scores_do_not_depend_on_length(items: NDArray[np.float32], power: int) -> None:
    items[~items.any(axis=1)] = 1
    items = np.where(np.abs(items) < 1e-3, np.float32(0.5), items)
    head = KnnAnomaly.fit(items, model="m", fingerprint=SPACE)
    scores = head.score(items, fingerprint=SPACE)
    assert ((scores >= 0) & (scores <= 2)).all()
    other = head.score(items * np.float32(2.0**power), fingerprint=SPACE)
    np.testing.assert_array_equal(scores, other)


@settings(max_examples=30)
@given(ITEMS, st.tuples(*[st.integers(-1000, 1000)] * DIMS))
def test_euclidean_scores_do_not_depend_on_the_origin(
    items: NDArray[np.float32], origin: tuple[int, ...]
) -> None:
    items = np.round(items)  # so that the sum is exact
    shifted = items + np.asarray(origin, np.float32)

    def scores(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        head = KnnAnomaly.fit(vectors, model="m", fingerprint=SPACE, metric="euclidean")
        return head.score(vectors, fingerprint=SPACE)

    assert (scores(items) >= 0).all()
    np.testing.assert_allclose(scores(items), scores(shifted), atol=1e-5)


def test_the_metric_follows_the_manifest_and_is_reported(served: tuple[str, Path]) -> None:
    items = DETECTORS[2].items
    with Client(served[0]) as client:
        for model, metric in (("rows", "euclidean"), ("units", "cosine")):
            for chosen in (None, "cosine", "euclidean"):
                fitted = client.fit_anomaly("info", items, model=model, metric=chosen)
                assert fitted.metric == (chosen or metric)
                assert client.detector("info") == fitted
                file = served[1] / "data" / "anomaly" / "info.npz"
                assert KnnAnomaly.from_bytes(file.read_bytes()).metric == fitted.metric
                client.delete_detector("info")


def test_a_collection_keeps_directions_alone_and_a_detector_says_so(
    served: tuple[str, Path],
) -> None:
    items = np.random.default_rng(0).normal(size=(40, DIMS)).astype(np.float32)
    with Client(served[0]) as client:
        for model in ("rows", "units"):
            client.create_collection(model, model=model)
            client.upsert(model, range(40), items)
        for metric in (None, "euclidean"):
            with pytest.raises(InvalidInput, match=r"directions alone.*metric='cosine'"):
                client.fit_anomaly("rows", collection="rows", metric=metric)
        assert client.fit_anomaly("rows", collection="rows", metric="cosine").metric == "cosine"
        fitted = client.fit_anomaly("units", collection="units", metric="euclidean")
        assert fitted.metric == "euclidean"
        for name in ("rows", "units"):
            client.delete_detector(name)
            client.delete_collection(name)


def test_a_head_of_before_metrics_measures_cosines() -> None:
    head = KnnAnomaly.fit(DETECTORS[2].items, model="m", fingerprint=SPACE)
    with np.load(io.BytesIO(head.to_bytes())) as npz:
        before = {name: npz[name] for name in npz.files if name != "metric"}
        unknown = {**before, "metric": np.str_("manhattan")}
        falling = {**before, "calibration": before["calibration"][::-1]}
    old = KnnAnomaly.from_bytes(packed(before))
    assert old.metric == "cosine"
    assert old.to_bytes() == head.to_bytes()
    for spoiled in (unknown, falling, {**before, "neighbours": np.float64(np.inf)}):
        with pytest.raises(BundleRefused, match="fit it again"):
            KnnAnomaly.from_bytes(packed(spoiled))


def npy(descr: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """Give an .npy file by its header."""
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + data


def with_array(head: bytes, name: str, array: bytes) -> bytes:
    """Give a head's file with an array in the place of its own."""
    files = {f"{name}.npy": array}
    if head:
        with zipfile.ZipFile(io.BytesIO(head)) as archive:
            files = {entry: archive.read(entry) for entry in archive.namelist()} | files
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry, data in files.items():
            archive.writestr(entry, data)
    return buffer.getvalue()


def packed(values: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    return buffer.getvalue()


def test_the_share_of_false_alarms_lies_within_its_margin(served: tuple[str, Path]) -> None:
    rng = np.random.default_rng(0)
    with Client(served[0]) as client:
        within = 0
        for _ in range(10):
            items = rng.normal(size=(200, DIMS)).astype(np.float32)
            fitted = client.fit_anomaly("margin", items, model="rows")
            new = rng.normal(size=(500, DIMS)).astype(np.float32)
            share = client.score_anomaly("margin", new).anomalies.mean()
            within += abs(share - fitted.target_fpr) <= fitted.fpr_margin
            client.delete_detector("margin")
        assert within >= 8


def test_many_neighbours_do_not_take_much_memory() -> None:
    """All nearest references at once would be 262 MB: 512 queries, 1000 neighbours, 64 dims."""
    rng = np.random.default_rng(0)
    references = rng.normal(size=(1200, 64)).astype(np.float32)
    head = KnnAnomaly(references, np.zeros(1, np.float32), 1000, 0.5, "m", SPACE, "euclidean")
    queries = rng.normal(size=(512, 64)).astype(np.float32)
    head.score(queries[:1], fingerprint=SPACE)
    tracemalloc.start()
    try:
        head.score(queries, fingerprint=SPACE)
        assert tracemalloc.get_traced_memory()[1] < 80e6
    finally:
        tracemalloc.stop()


async def test_a_fit_that_cannot_be_is_refused_before_anything_is_embedded(tmp_path: Path) -> None:
    async with started(make(tiny_bundle(tmp_path / "tiny.attar"))) as models:
        collections = Collections(StoreProcess(tmp_path / "collections"), models)
        try:
            anomaly = Anomaly(tmp_path, models, collections)
            with pytest.raises(InvalidInput, match="3 items are too few"):
                await anomaly.fit("few", items=["cat", "\ud800", "sun"])  # no text, and not met
        finally:
            await collections.close()


# -------------------------------------------------------------------------- classifiers


def classified(case: Classifier, door: Door, target: str) -> tuple[Any, NDArray[Any], list[str]]:
    """Fit and predict: what the fit reported, the probabilities and the labels."""
    if door == "head":
        fitted = fit_classifier(
            case.items, case.labels, normalized=case.normalized, model="m", fingerprint=SPACE
        )
        head = LinearClassifier.from_bytes(fitted.to_bytes())
        p = head.probabilities(case.queries, fingerprint=SPACE)
        return head, p, [head.labels[best] for best in p.argmax(axis=1)]
    call = through(door, target)
    model = "units" if case.normalized else "rows"
    info = call("fit_classifier", "one", case.items, list(case.labels), model=model)
    try:
        assert call("classifier", "one") == info
        found = call("classify", "one", case.queries)
    finally:
        call("delete_classifier", "one")
    return info, found.probabilities, list(found.labels)


@pytest.mark.parametrize("door", ["head", "client", "asyncio"])
@pytest.mark.parametrize("case", [case for case in CLASSIFIERS if not case.refused], ids=str)
def test_a_classifier_is_right_about_its_items(
    case: Classifier, door: Door, served: tuple[str, Path]
) -> None:
    info, p, labels = classified(case, door, served[0])
    assert (info.labels, info.counts) == (case.classes, case.counts)
    assert info.contradictory == case.contradictory
    assert info.examples == len(case.items)
    if case.recalls:
        assert info.recalls == pytest.approx(case.recalls)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    if case.predicted:
        assert labels == list(case.predicted)


@pytest.mark.parametrize("door", ["client", "asyncio"])
@pytest.mark.parametrize("case", [case for case in CLASSIFIERS if case.refused], ids=str)
def test_labels_that_make_no_classifier_are_refused(
    case: Classifier, door: Door, served: tuple[str, Path]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        classified(case, door, served[0])
    assert case.refused in str(refused.value)


@pytest.mark.parametrize(
    "labels",
    ["ab", {"a", "b"}, frozenset("ab"), {"a": 1, "b": 2}],
    ids=["str", "set", "frozenset", "dict"],
)
def test_labels_without_an_order_of_their_own_are_no_list(
    labels: Any, served: tuple[str, Path]
) -> None:
    with Client(served[0]) as client, pytest.raises(InvalidInput, match=r"labels is .*give a list"):
        client.fit_classifier("unordered", CLASSIFIERS[1].items, labels, model="rows")


def test_recalls_are_of_items_that_were_held_out() -> None:
    """Random labels of different items: by heart every recall is 1, held out it is one of five."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(500, 64)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    labels = [f"l{i}" for i in rng.integers(0, 5, 500)]
    for vectors in (items, np.repeat(items, 2, axis=0)):  # copies are not learnt by heart either
        twice = np.repeat(labels, len(vectors) // 500).tolist()
        head = fit_classifier(vectors, twice, model="m", fingerprint=SPACE)
        recalls = [recall for recall in head.recalls if recall is not None]
        assert len(recalls) == 5
        assert np.mean(recalls) < 0.3


POWERS = st.tuples(*[st.integers(-60, 60)] * DIMS)


@settings(max_examples=10)
@given(POWERS, POWERS)
def test_what_a_column_is_measured_in_does_not_matter(
    units: tuple[int, ...], origin: tuple[int, ...]
) -> None:
    """Probabilities move by what the shifts cost in digits, and no more."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(40, DIMS)).astype(np.float32)
    labels = ["a", "b", "c", "d"] * 10
    items[1::2, 0] += 2
    items[2::4, 1] += 3
    unit = np.asarray(2.0 ** np.array(units), np.float32)
    shift = np.asarray(np.sign(origin) * 4, np.float32)  # digits enough are left

    def fitted(vectors: NDArray[np.float32]) -> tuple[LinearClassifier, NDArray[np.float32]]:
        head = fit_classifier(vectors, labels, normalized=False, model="m", fingerprint=SPACE)
        return head, head.probabilities(vectors, fingerprint=SPACE)

    plain, p = fitted(items)
    other, q = fitted((items + shift) * unit)
    np.testing.assert_allclose(p, q, atol=1e-3)
    assert other.counts == plain.counts == (10, 10, 10, 10)


def test_a_classifier_of_before_recalls_has_none() -> None:
    case = CLASSIFIERS[0]
    head = fit_classifier(case.items, case.labels, model="m", fingerprint=SPACE)
    with np.load(io.BytesIO(head.to_bytes())) as npz:
        now = {name: npz[name] for name in npz.files}
    added = ("counts", "recalls", "contradictory")
    old = LinearClassifier.from_bytes(
        packed({name: array for name, array in now.items() if name not in added})
    )
    assert (old.counts, old.recalls, old.contradictory) == ((), (), 0)
    np.testing.assert_array_equal(
        old.probabilities(case.queries, fingerprint=SPACE),
        head.probabilities(case.queries, fingerprint=SPACE),
    )
    with pytest.raises(BundleRefused, match="1 recalls"):
        LinearClassifier.from_bytes(packed({**now, "recalls": now["recalls"][:1]}))


@pytest.mark.parametrize(
    ("name", "array", "refusal"),
    [
        ("labels", npy("<U0", (10**9,)), r"\(1000000000,\) labels of \(2, 3\) weights"),
        ("labels", npy("<U1", (2, 0)), r"\(2, 0\) labels of"),
        ("labels", npy("<i8", (2,), bytes(16)), r"int64 \(2,\) labels of"),
        ("weights", npy("<f4", (10**9, 0)), "weights must be finite float32 with 2 axes"),
        ("bias", npy("<f4", (3,), bytes(12)), r"labels of \(2, 3\) weights"),
        ("counts", npy("|V0", (10**9,)), "1000000000 counts"),
        ("model", npy("<U0", (7,) * 22), "model must be one text"),
        ("labels", npy("<U1", (2,), HALF_A_PAIR + b"a\0\0\0"), "surrogates not allowed"),
        ("model", npy("<U1", (), HALF_A_PAIR), "surrogates not allowed"),
    ],
)
def test_arrays_that_no_head_has_are_refused_before_anything_is_made_of_them(
    name: str, array: bytes, refusal: str
) -> None:
    case = CLASSIFIERS[0]
    head = fit_classifier(case.items, case.labels, model="m", fingerprint=SPACE)
    data = with_array(head.to_bytes(), name, array)
    tracemalloc.start()
    try:
        with pytest.raises(BundleRefused, match=refusal):
            read_head(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_arrays_whose_kind_is_no_text_are_no_head() -> None:
    assert read_head(with_array(b"", "kind", npy("<U0", (7,) * 22))) is None
    assert read_head(with_array(b"", "kind", npy("|u1", (2,) * 20, bytes(2**20)))) is None


# -------------------------------------------------------------------------- on disk and devices


def test_a_head_gives_on_a_device_what_the_server_gives(served: tuple[str, Path]) -> None:
    target, folder = served
    texts = [f"the cat sat on {i}" for i in range(40)]
    queries = ["the cat sat on 3", "blue sky", "rain rain"]
    with Client(target) as client:
        client.fit_anomaly("device", texts, model="tiny")
        client.fit_classifier("device", texts, ["odd", "even"] * 20, model="tiny")
        scored, found = client.score_anomaly("device", queries), client.classify("device", queries)
    encoder = attar.load(folder / "tiny.attar", threads=1)
    embedded = encoder.embed(queries)
    detector = KnnAnomaly.from_bytes((folder / "data/anomaly/device.npz").read_bytes())
    scores = detector.score(embedded.vectors, fingerprint=embedded.fingerprint)
    np.testing.assert_array_equal(scores, scored.scores)
    np.testing.assert_array_equal(detector.p_values(scores), scored.p_values)
    np.testing.assert_array_equal(detector.anomalies(scores), scored.anomalies)
    classifier = LinearClassifier.from_bytes((folder / "data/classifiers/device.npz").read_bytes())
    p = classifier.probabilities(embedded.vectors, fingerprint=embedded.fingerprint)
    np.testing.assert_array_equal(p, found.probabilities)


def test_a_bundle_with_heads_is_of_the_space_that_they_were_fitted_in(tmp_path: Path) -> None:
    bare = Bundle.open(tiny_bundle(tmp_path / "bare.attar"))
    encoder = attar.load(bare.path, threads=1)
    normal = encoder.embed([f"the cat sat on {i}" for i in range(40)])
    head = KnnAnomaly.fit(normal.vectors, model="tiny", fingerprint=normal.fingerprint)
    files = {entry.path: bare.read(entry.path) for entry in bare.manifest.files}
    files["heads/normal.npz"] = head.to_bytes()
    Bundle.write(tmp_path / "headed.attar", bare.manifest, files)
    Bundle.pack(tmp_path / "headed.attar", tmp_path / "headed.zip")
    for path in (tmp_path / "headed.attar", tmp_path / "headed.zip"):
        own = KnnAnomaly.from_bytes(Bundle.open(path).read("heads/normal.npz"))
        found = attar.load(path, threads=1).embed(["the cat sat on 3", "blue sky"])
        scores = own.score(found.vectors, fingerprint=found.fingerprint)
        np.testing.assert_array_equal(own.anomalies(scores), [False, True])
        expected = head.score(found.vectors, fingerprint=normal.fingerprint)
        np.testing.assert_array_equal(scores, expected)


def flipped(data: bytes, bit: int) -> bytes:
    spoiled = bytearray(data)
    spoiled[bit // 8] ^= 1 << bit % 8
    return bytes(spoiled)


HEAD = KnnAnomaly.fit(DETECTORS[0].items, model="m", fingerprint=SPACE)
DATA = HEAD.to_bytes()
with zipfile.ZipFile(io.BytesIO(DATA)) as archive:
    # The method and the flags of the first entry, in its own header and in the directory.
    CRITICAL = tuple(
        8 * (start + offset) + bit
        for start, first in ((0, 6), (archive.start_dir, 8))
        for offset in range(first, first + 4)
        for bit in range(8)
    )

LENGTHS = tuple(range(8 * 26, 8 * 30))  # of the first entry's name and extra field


@settings(max_examples=300)
@given(st.sampled_from(CRITICAL) | st.integers(0, 8 * len(DATA) - 1))
def test_a_head_with_a_flipped_bit_is_refused_or_the_same(bit: int) -> None:
    try:
        head = KnnAnomaly.from_bytes(flipped(DATA, bit))
    except BundleRefused:
        return
    assert head.to_bytes() == DATA


def test_a_bundle_with_a_flipped_bit_in_a_head_is_refused_or_written(tmp_path: Path) -> None:
    bare = Bundle.open(tiny_bundle(tmp_path / "bare.attar"))
    files = {entry.path: bare.read(entry.path) for entry in bare.manifest.files}
    refused = 0
    for i, bit in enumerate((*CRITICAL, *LENGTHS)):
        files["heads/normal.npz"] = flipped(DATA, bit)
        try:
            Bundle.write(tmp_path / f"{i}.attar", bare.manifest, files)
        except BundleRefused as error:
            refused += error.code == "bad-arrays"
    assert refused > len(CRITICAL) / 2


def test_a_spoiled_head_keeps_no_other_from_being_served(tmp_path: Path) -> None:
    for bit in CRITICAL:
        (tmp_path / f"bit{bit}.npz").write_bytes(flipped(DATA, bit))
    (tmp_path / "good.npz").write_bytes(DATA)
    (tmp_path / "folder.npz").mkdir()
    shelf = HeadStore(tmp_path, "detector", KnnAnomaly.from_bytes)
    assert "good" in shelf.names()
    assert {"folder", f"bit{CRITICAL[-16]}"} <= shelf.damaged.keys()
    assert len(shelf.names()) + len(shelf.damaged) == len(CRITICAL) + 2


async def test_a_damaged_or_vanished_head_can_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "folder.npz" / "note.txt").write_text("not a head")
    (tmp_path / "good.npz").write_bytes(DATA)
    shelf = HeadStore(tmp_path, "detector", KnnAnomaly.from_bytes)
    (tmp_path / "good.npz").unlink()
    for name in ("folder", "good"):
        await shelf.delete(name)
        await shelf.put(name, HEAD)
    assert HeadStore(tmp_path, "detector", KnnAnomaly.from_bytes).names() == ["folder", "good"]


async def test_a_model_of_another_width_is_another_space(tmp_path: Path) -> None:
    texts = [f"the cat sat on {i}" for i in range(40)]
    for dim in (16, 24):
        bundle = tiny_bundle(tmp_path / f"{dim}.attar", dim=dim)
        async with started(make(bundle)) as models:
            collections = Collections(StoreProcess(tmp_path / "collections"), models)
            anomaly = Anomaly(tmp_path, models, collections)
            classification = Classification(tmp_path, models)
            try:
                if dim == 16:
                    await anomaly.fit("d", items=texts)
                    await classification.fit("c", items=texts, labels=["odd", "even"] * 20)
                    continue
                for call in (
                    anomaly.score("d", items=texts),
                    classification.predict("c", items=texts),
                ):
                    with pytest.raises(SpaceMismatch, match="now embeds into"):
                        await call
            finally:
                await collections.close()
