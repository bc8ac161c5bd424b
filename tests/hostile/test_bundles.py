"""What a bundle is refused for: each refusal of docs/bundle.md is provoked here; there is no other.

Each row of the table below damages a sound bundle; the refusal's code and words must come back.
"""

import json
import re
import shutil
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import attar
from attar.bundle import Bundle
from attar.errors import BundleRefused, NotFound, Refusal
from attar.manifest import Manifest, parse, serialise
from attar.onnx_scan.check import check_onnx
from benchmarks.hostile.bundles import MODEL, TABLE, Damage, listed, model, sealed
from benchmarks.support.bundles import text_graph, tiny_bundle


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("sound") / "x.attar")


@pytest.mark.parametrize(("code", "damage", "message"), TABLE)
def test_a_bad_bundle_is_refused_by_code_and_in_words(
    code: Refusal, damage: Damage, message: str, sound: Path, tmp_path: Path
) -> None:
    path = damage(Path(shutil.copytree(sound, tmp_path / "x.attar")))
    with pytest.raises(BundleRefused, match=re.escape(message)) as caught:
        attar.load(path, threads=1)
    assert caught.value.code == code


def test_a_session_finds_no_weights_where_the_process_works(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard behind the check: here the check is out of the way."""

    def look_here(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[0]
        (tmp_path / "weights").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights")

    path = sealed(model(look_here))(Path(shutil.copytree(sound, tmp_path / "x.attar")))
    monkeypatch.setattr("attar.bundle.check_onnx", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    ort.InferenceSession((path / MODEL).read_bytes(), providers=["CPUExecutionProvider"])
    with pytest.raises(BundleRefused, match="External data path does not exist") as caught:
        attar.load(path, threads=1)
    assert caught.value.code == "unloadable"


def test_a_session_takes_nothing_but_onnx(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard behind the check: here the check is out of the way."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "own")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(text_graph(), options, providers=["CPUExecutionProvider"])
    own = (tmp_path / "own").read_bytes()
    assert own[4:8] == b"ORTM"
    ort.InferenceSession(own, providers=["CPUExecutionProvider"])
    path = sealed(listed(MODEL, own))(Path(shutil.copytree(sound, tmp_path / "x.attar")))
    monkeypatch.setattr("attar.bundle.check_onnx", lambda *_: None)
    with pytest.raises(BundleRefused, match="cannot load variants/fp32") as caught:
        attar.load(path, threads=1)
    assert caught.value.code == "unloadable"


def test_the_page_the_code_and_this_table_name_the_same_refusals() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")
    table = page.partition("## What is refused")[2]
    documented = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    signatures = {"unsigned", "wrong-signature"}  # test_signatures.py has their table
    tested = {str(row.values[0]) for row in TABLE} | signatures
    assert sorted(documented) == sorted(get_args(Refusal)) == sorted(tested)


def test_a_path_where_nothing_stands_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no bundle at .*nowhere: no such file or folder"):
        attar.load(tmp_path / "nowhere")


Content = tuple[Manifest, dict[str, bytes]]


def opened(archive: Path, data: bytes) -> Content | None:
    """Give what a zip of these bytes says, or None if it is refused."""
    copy = archive.with_suffix(".damaged")
    copy.write_bytes(data)
    try:
        bundle = Bundle.open(copy)
    except BundleRefused:
        return None
    return bundle.manifest, {e.path: bundle.read(e.path) for e in bundle.manifest.files}


@pytest.fixture(scope="module")
def archive(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Bundle.pack(sound, tmp_path_factory.mktemp("zip") / "x.attar").path


@pytest.fixture(scope="module")
def content(archive: Path) -> Content:
    found = opened(archive, archive.read_bytes())
    assert found is not None
    return found


class Stream(BytesIO):
    """What cannot be sought, as a pipe: sizes stand behind each entry."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError("it is a pipe")

    def tell(self) -> int:
        raise OSError("it is a pipe")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("sizes_64", [False, True])
@pytest.mark.parametrize("extra", [b"", b"UT\5\0\3abcdux\x0b\0\1\4abcd\4abcd", b"\x0a\0\4\0abcd"])
def test_a_zip_of_another_writer_opens(
    sound: Path,
    tmp_path: Path,
    content: Content,
    *,
    compression: int,
    streamed: bool,
    sizes_64: bool,
    extra: bytes,
) -> None:
    target = Stream() if streamed else BytesIO()
    with zipfile.ZipFile(target, "w", compression) as file:
        for path in sorted(sound.rglob("*")):
            info = zipfile.ZipInfo(path.relative_to(sound).as_posix())
            info.extra, info.compress_type = extra, compression
            if path.is_file():
                with file.open(info, "w", force_zip64=sizes_64) as entry:
                    entry.write(path.read_bytes())
    data = bytearray(target.getvalue())
    assert opened(tmp_path / "x.zip", bytes(data)) == content
    if streamed and not sizes_64:  # as Info-ZIP writes to a pipe: the size alone stands in front
        data[22:26] = struct.pack("<L", (sound / "manifest.json").stat().st_size)
        assert opened(tmp_path / "x.zip", bytes(data)) == content
        data[22] ^= 1
        assert opened(tmp_path / "x.zip", bytes(data)) is None


FUZZ = settings(max_examples=200)


@FUZZ
@given(at=st.integers(0), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_zip_passes_unnoticed(
    archive: Path, content: Content, at: int, bit: int
) -> None:
    data = bytearray(archive.read_bytes())
    data[at % len(data)] ^= 1 << bit
    assert opened(archive, bytes(data)) in (content, None)


@FUZZ
@given(size=st.integers(0))
def test_no_cut_of_a_zip_passes_unnoticed(archive: Path, size: int) -> None:
    data = archive.read_bytes()
    assert opened(archive, data[: size % len(data)]) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@FUZZ
@given(data=st.data(), value=json_values)
def test_a_manifest_with_any_value_anywhere_is_read_or_refused(
    sound: Path, data: st.DataObject, value: object
) -> None:
    document = json.loads((sound / "manifest.json").read_bytes())
    place: Any = document
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    try:
        manifest = parse(json.dumps(document).encode())
    except BundleRefused:
        return
    assert parse(serialise(manifest)) == manifest


@FUZZ
@given(st.binary(max_size=64) | st.tuples(st.integers(0), st.binary(max_size=8)))
def test_any_bytes_are_an_onnx_model_or_refused(damage: bytes | tuple[int, bytes]) -> None:
    graph = text_graph(dim=8)
    if isinstance(damage, tuple):
        at = damage[0] % len(graph)
        damage = graph[:at] + damage[1] + graph[at + len(damage[1]) :]
    try:
        check_onnx(damage, "x.onnx")
    except BundleRefused as error:
        assert error.code in ("not-onnx", "external-data", "foreign-operator", "unbounded")  # noqa: PT017 -- or none
