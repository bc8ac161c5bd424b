"""Providers: who asks for one gets that one. CUDA and its kin are decisions here, and not run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

import attar
from attar import runtime
from attar.bundle import Bundle
from attar.errors import InvalidInput, NotSupported
from attar.manifest import Requires
from attar.providers import CHAINS, Execution, Provider
from benchmarks.support.bundles import text_files, text_manifest

ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "OpenVINOExecutionProvider"]


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ONNX Runtime say that it was built with every provider."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [*ALL, "CPUExecutionProvider"])


def test_the_cpu_by_name_gives_the_numbers_of_the_default(bundle_path: Path) -> None:
    texts = ["the cat", "sun"]
    one, two = attar.load(bundle_path), attar.load(bundle_path, provider="cpu")
    assert (one.embed(texts).vectors == two.embed(texts).vectors).all()
    assert (two.reopened().embed(texts).vectors == two.embed(texts).vectors).all()


@pytest.mark.parametrize("provider", [name for name in CHAINS if name != "cpu"])
def test_a_provider_that_this_build_lacks_is_refused_by_name(
    bundle_path: Path, provider: Provider
) -> None:
    with pytest.raises(NotSupported, match=f"provider {provider} needs {CHAINS[provider][0]}"):
        attar.load(bundle_path, provider=provider)


@pytest.mark.usefixtures("everything")
def test_a_provider_that_does_not_come_up_is_refused_and_not_replaced_by_the_cpu(
    bundle_path: Path,
) -> None:
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(NotSupported, match=r"asked ONNX Runtime for \['CUDA.*, got \['CPU"),
    ):
        attar.load(bundle_path, provider="cuda")


@pytest.mark.usefixtures("everything")
def test_device_and_options_go_where_they_belong() -> None:
    chain = Execution(provider="tensorrt", device_id=1, options={"trt_fp16_enable": "True"}).chain()
    assert chain == [
        ("TensorrtExecutionProvider", {"device_id": "1", "trt_fp16_enable": "True"}),
        ("CUDAExecutionProvider", {"device_id": "1"}),
        ("CPUExecutionProvider", {}),
    ]
    assert Execution(provider="openvino", options={"device_type": "GPU"}).chain() == [
        ("OpenVINOExecutionProvider", {"device_type": "GPU"}),
        ("CPUExecutionProvider", {}),
    ]


def test_what_no_provider_takes_is_refused(bundle_path: Path) -> None:
    unknown: Any = "tpu"
    for options, message in (
        ({"provider": unknown}, "provider must be one of cpu, cuda, tensorrt, openvino; got 'tpu'"),
        ({"provider": "cpu", "device_id": 1}, "device_id 1 is a CUDA device, and the provider is"),
        ({"provider": "cuda", "device_id": -1}, "device_id counts from 0; got -1"),
        ({"device_id": 1}, "are a provider's; name the provider"),
        ({"provider_options": {"x": "y"}}, "are a provider's; name the provider"),
    ):
        with pytest.raises(InvalidInput, match=message):
            attar.load(bundle_path, **options)


@pytest.mark.usefixtures("everything")
def test_on_an_accelerator_the_variant_made_for_it_comes_first_then_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = text_manifest(
        variants=("fp32", "int8", "fp16"), latency_ms={"fp32": 4.0, "int8": 1.0}
    )
    gpu = Requires(provider="CUDAExecutionProvider")
    fp32, int8, fp16 = manifest.variants
    with_gpu = replace(manifest, variants=(fp32, int8, replace(fp16, requires=gpu)))
    chosen: list[str] = []
    # What is chosen shows before a session is made, which needs the device.
    monkeypatch.setattr(runtime, "Encoder", lambda _, variant, **__: chosen.append(variant.name))
    for name, made in (("a", manifest), ("b", with_gpu)):
        path = Bundle.write(tmp_path / name, made, text_files(made)).path
        attar.load(path, provider="cuda")
        attar.load(path, provider="cpu")
    assert chosen == ["fp32", "int8", "fp16", "int8"]
    with pytest.raises(NotSupported, match="variant fp16 needs CUDAExecutionProvider"):
        attar.load(tmp_path / "b", variant="fp16", provider="openvino")
