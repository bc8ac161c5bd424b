"""A model repository: what Triton's own messages read in it is what the bundle says.

That a real server runs it is shown by benchmarks/prove_triton.py, which installs one.
"""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from attar.bundle import Bundle
from attar.errors import AlreadyExists, InvalidInput, NotFound
from attar.export.targets.triton import MAX_BATCH, Device, export_triton, to_pbtxt
from benchmarks.support.bundles import text_files, text_manifest, tiny_bundle, tiny_tensor_bundle


def config(repository: Path, name: str) -> Any:
    """Read a model's configuration as Triton does."""
    return text_format.Parse((repository / name / "config.pbtxt").read_text("utf-8"), ModelConfig())


def enumerator(field: str, message: Any) -> str:
    """Name the value of an enumerated field."""
    name: str = (
        message.DESCRIPTOR.fields_by_name[field]
        .enum_type.values_by_number[getattr(message, field)]
        .name
    )
    return name


def tensors(some: Any) -> list[tuple[str, str, list[int]]]:
    return [(t.name, enumerator("data_type", t), list(t.dims)) for t in some]


def tree(path: Path) -> set[str]:
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}


def test_a_graph_with_token_vectors_states_both_outputs(tmp_path: Path) -> None:
    texts = tiny_bundle(tmp_path / "texts.attar", name="texts", tokens=True)
    images = tiny_tensor_bundle(tmp_path / "images.attar", name="images", tokens=True)
    for path in (texts, images):
        export_triton(Bundle.open(path), tmp_path / "models")

    embedding = ("embedding", "TYPE_FP32", [16])
    graph, image = (config(tmp_path / "models", name) for name in ("texts_graph", "images"))
    assert tensors(graph.output) == [embedding, ("tokens", "TYPE_FP32", [-1, 16])]
    assert tensors(image.output) == [embedding, ("tokens", "TYPE_FP32", [8, 8])]


def test_a_text_bundle_becomes_a_model_of_texts_and_one_of_ids(
    bundle_path: Path, tmp_path: Path
) -> None:
    written = export_triton(Bundle.open(bundle_path), tmp_path / "models")

    assert (written.models, written.version) == (("tiny", "tiny_graph"), 1)
    assert tree(written.path) == {
        "tiny/config.pbtxt",
        "tiny/1/model.py",
        "tiny/1/bundle.zip",
        "tiny_graph/config.pbtxt",
        "tiny_graph/1/model.onnx",
    }
    texts, graph = config(written.path, "tiny"), config(written.path, "tiny_graph")
    assert (texts.name, texts.backend, texts.max_batch_size) == ("tiny", "python", MAX_BATCH)
    assert tensors(texts.input) == [("text", "TYPE_STRING", [1])]
    assert tensors(texts.output) == [
        ("embedding", "TYPE_FP32", [16]),
        ("tokens", "TYPE_INT32", [1]),
        ("truncated", "TYPE_BOOL", [1]),
        ("fingerprint", "TYPE_STRING", [1]),
    ]
    assert (graph.name, graph.backend) == ("tiny_graph", "onnxruntime")
    assert tensors(graph.input) == [
        ("input_ids", "TYPE_INT64", [-1]),
        ("attention_mask", "TYPE_INT64", [-1]),
    ]
    assert tensors(graph.output) == [("embedding", "TYPE_FP32", [16])]


def test_both_models_batch_by_back_pressure_and_refuse_what_would_wait_too_long(
    bundle_path: Path, tmp_path: Path
) -> None:
    written = export_triton(Bundle.open(bundle_path), tmp_path / "models", max_batch=7)

    for name, versions in (("tiny", 1), ("tiny_graph", 2)):
        found = config(written.path, name)
        assert found.HasField("dynamic_batching")
        assert found.dynamic_batching.max_queue_delay_microseconds == 0
        assert found.dynamic_batching.default_queue_policy.max_queue_size > 0
        assert found.version_policy.latest.num_versions == versions
        assert found.max_batch_size == 7
        assert [enumerator("kind", g) for g in found.instance_group] == ["KIND_CPU"]


def test_the_repository_carries_the_bundle_the_variant_and_the_code_unchanged(
    tmp_path: Path,
) -> None:
    bundle = Bundle.open(tiny_bundle(tmp_path / "tiny.attar", variants=("fp32", "int8")))
    written = export_triton(bundle, tmp_path / "models", variant="int8")

    packed = Bundle.open(written.path / "tiny" / "1" / "bundle.zip")
    assert packed.manifest == bundle.manifest
    graph = (written.path / "tiny_graph" / "1" / "model.onnx").read_bytes()
    assert graph == bundle.read("variants/int8.onnx")
    code = files("attar.export.targets").joinpath("triton_model.py").read_bytes()
    assert (written.path / "tiny" / "1" / "model.py").read_bytes() == code
    assert config(written.path, "tiny").parameters["variant"].string_value == "int8"


def test_without_a_variant_the_machine_that_serves_picks_one(
    bundle_path: Path, tmp_path: Path
) -> None:
    written = export_triton(Bundle.open(bundle_path), tmp_path / "models")

    assert "variant" not in config(written.path, "tiny").parameters


def test_on_a_gpu_the_model_of_texts_calls_the_graph_there(
    bundle_path: Path, tmp_path: Path
) -> None:
    written = export_triton(Bundle.open(bundle_path), tmp_path / "models", device="gpu")

    texts, graph = config(written.path, "tiny"), config(written.path, "tiny_graph")
    assert texts.parameters["graph"].string_value == graph.name
    assert [enumerator("kind", g) for g in graph.instance_group] == ["KIND_GPU"]
    assert [enumerator("kind", g) for g in texts.instance_group] == ["KIND_CPU"]
    on_cpu = export_triton(Bundle.open(bundle_path), tmp_path / "cpu")
    batch_tokens = [
        int(config(path, "tiny").parameters["batch_tokens"].string_value)
        for path in (on_cpu.path, written.path)
    ]
    assert batch_tokens == sorted(set(batch_tokens))  # a GPU takes larger batches


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_tensor_bundle_becomes_its_graph_alone(device: Device, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_tensor_bundle(tmp_path / "image.attar", shape=(3, 4, 5)))
    written = export_triton(bundle, tmp_path / "models", device=device)

    assert written.models == ("tiny-image",)
    assert tree(written.path) == {"tiny-image/config.pbtxt", "tiny-image/1/model.onnx"}
    found = config(written.path, "tiny-image")
    assert found.backend == "onnxruntime"
    assert tensors(found.input) == [("image", "TYPE_FP32", [3, 4, 5])]
    assert [enumerator("kind", g) for g in found.instance_group] == [f"KIND_{device.upper()}"]


def versioned(path: Path, version: str, *, dim: int = 16) -> Bundle:
    """Write the tiny bundle with another version."""
    manifest = text_manifest(dim=dim)
    return Bundle.write(path, replace(manifest, version=version), text_files(manifest))


def test_a_second_version_stands_next_to_the_first(tmp_path: Path) -> None:
    models = tmp_path / "models"
    export_triton(versioned(tmp_path / "a.attar", "1"), models)
    second = export_triton(versioned(tmp_path / "b.attar", "2"), models)

    assert second.version == 2
    assert {p.parent.name for p in models.glob("tiny/*/model.py")} == {"1", "2"}
    assert {p.parent.name for p in models.glob("tiny_graph/*/model.onnx")} == {"1", "2"}


@pytest.mark.parametrize("version", ["0", "1.2", "v3"])
def test_a_version_that_is_no_whole_number_becomes_1(version: str, tmp_path: Path) -> None:
    written = export_triton(versioned(tmp_path / "a.attar", version), tmp_path / "models")

    assert written.version == 1


@pytest.mark.parametrize(
    ("version", "dim", "message"), [("1", 16, "has version 1"), ("2", 8, "describes another model")]
)
def test_a_version_that_stands_or_a_changed_signature_is_refused_and_nothing_changes(
    version: str, dim: int, message: str, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    export_triton(versioned(tmp_path / "a.attar", "1"), models)
    before = {name: (models / name).read_bytes() for name in tree(models)}

    with pytest.raises(AlreadyExists, match=message):
        export_triton(versioned(tmp_path / "b.attar", version, dim=dim), models)

    assert {name: (models / name).read_bytes() for name in tree(models)} == before


def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    bundle_path: Path, tmp_path: Path
) -> None:
    bundle, models = Bundle.open(bundle_path), tmp_path / "models"

    with pytest.raises(NotFound, match="no variant 'fp64'; it has fp32"):
        export_triton(bundle, models, variant="fp64")
    with pytest.raises(InvalidInput, match="max_batch must be 1 or more; got 0"):
        export_triton(bundle, models, max_batch=0)

    assert list(tmp_path.iterdir()) == []


@given(st.text(), st.text())
def test_any_name_survives_protobufs_text_format(name: str, value: str) -> None:
    # Protobuf holds no half of a surrogate pair, and neither does a manifest.
    name, value = (text.encode("utf-8", "ignore").decode() for text in (name, value))
    text = to_pbtxt(
        {
            "name": name,
            "input": [{"name": value, "dims": [1, -1], "optional": True}],
            "parameters": [{"key": name, "value": {"string_value": value}}],
        }
    )
    found = text_format.Parse(text, ModelConfig())

    assert found.name == name
    assert (found.input[0].name, list(found.input[0].dims)) == (value, [1, -1])
    assert found.input[0].optional
    assert found.parameters[name].string_value == value
