"""TensorRT engines: what is built, when it is built again, and what is refused, without a GPU.

The library is stood in for by tests/support/engines.py, whose engine runs on ONNX Runtime.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import attar
from attar.bundle import Bundle
from attar.errors import BackendError, InvalidInput, MissingExtra, NotFound, NotSupported
from attar.export.gates import FP32, Gate
from attar.export.targets.tensorrt.engine import (
    Engine,
    Gpu,
    Plan,
    engine_facts,
    export_tensorrt,
    key,
    plan,
    provider_options,
    run,
)
from benchmarks.support.bundles import (
    text_files,
    text_graph,
    text_manifest,
    tiny_bundle,
    tiny_tensor_bundle,
)

from ...support.engines import (
    BuilderFlag,
    Context,
    CreationFlag,
    Level,
    ParserError,
    StandIn,
    machine,
)

LENGTHS = (4, 16)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Give a text bundle of two variants."""
    return Bundle.open(tiny_bundle(tmp_path / "tiny.attar", variants=("fp32", "other")))


def build(
    bundle: Bundle, cache: Path, trt: StandIn, *, name: str = "Test GPU", **options: Any
) -> Engine:
    what = plan(bundle, lengths=LENGTHS, **options)
    return export_tensorrt(bundle, cache, what, machine=machine(trt, name=name))


def test_a_bundle_with_token_vectors_is_refused_with_the_fix(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "words.attar", name="words", tokens=True)
    with pytest.raises(NotSupported, match=r"words has token vectors.*without --tokens"):
        plan(Bundle.open(path), lengths=LENGTHS)


def test_a_plan_takes_the_reference_in_its_own_precision_and_every_text(bundle: Bundle) -> None:
    what = plan(bundle)

    assert (what.variant, what.precision, what.graph) == (
        "fp32",
        "fp32",
        bundle.read("variants/fp32.onnx"),
    )
    assert what.profiles[-1].largest["input_ids"] == (64, 16)  # the tiny encoder's longest text


def test_the_builder_gets_a_strongly_typed_network_and_every_profile(
    bundle: Bundle, tmp_path: Path
) -> None:
    trt = StandIn()
    build(bundle, tmp_path / "cache", trt, max_batch=8)

    ((network, config),) = trt.built
    assert network.flags == 1 << CreationFlag.STRONGLY_TYPED
    assert network.graph == bundle.read("variants/fp32.onnx")
    assert config.cleared == {BuilderFlag.TF32}
    assert config.hardware_compatibility_level == Level.NONE
    assert [ranges["attention_mask"] for ranges in config.profiles] == [
        {"min": (1, 1), "opt": (8, 4), "max": (8, 4)},
        {"min": (1, 5), "opt": (8, 16), "max": (8, 16)},
    ]
    assert [ranges["input_ids"] for ranges in config.profiles] == [
        ranges["attention_mask"] for ranges in config.profiles
    ]


def test_an_engine_is_built_once_and_found_again(bundle: Bundle, tmp_path: Path) -> None:
    trt, cache = StandIn(), tmp_path / "cache"
    first = build(bundle, cache, trt)
    again = build(bundle, cache, trt)

    assert (first.reused, again.reused) == (False, True)
    assert (again.path, again.parity) == (first.path, first.parity)
    assert len(trt.built) == 1
    assert first.parity["worst"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"bundle": {"name": "tiny", "variant": "fp32", "fingerprint": "sha256:0"}},
        {"parity": {"mean": 0.5, "worst": 0.1}},
    ],
    ids=["of another bundle", "too far off"],
)
def test_an_engine_whose_parity_is_not_this_bundles_is_built_again(
    change: dict[str, object], bundle: Bundle, tmp_path: Path
) -> None:
    trt, cache = StandIn(), tmp_path / "cache"
    about = build(bundle, cache, trt).path.with_suffix(".json")
    about.write_text(json.dumps(json.loads(about.read_text("utf-8")) | change), "utf-8")

    assert not build(bundle, cache, trt).reused
    assert build(bundle, cache, trt).reused


def test_the_json_file_of_an_engine_says_what_it_was_built_from(
    bundle: Bundle, tmp_path: Path
) -> None:
    engine = build(bundle, tmp_path / "cache", StandIn("11.4.0"))
    about = json.loads(engine.path.with_suffix(".json").read_text("utf-8"))

    assert engine.path.name == f"tiny-fp32-{key(about['made_of'])}.engine"
    assert about["made_of"]["tensorrt"] == "11.4.0"
    assert about["built_on"] == {"gpu": "Test GPU", "compute": [9, 0]}
    assert about["bundle"] == {
        "name": "tiny",
        "variant": "fp32",
        "fingerprint": bundle.manifest.fingerprint,
    }


CHANGES: dict[str, Callable[[Plan], Plan]] = {
    "graph": lambda what: replace(what, graph=what.graph + b"\0"),
    "precision": lambda what: replace(what, precision="fp16"),
    "profiles": lambda what: replace(what, profiles=what.profiles[:1]),
    "hardware": lambda what: replace(what, hardware="same-compute"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_an_engine_depends_on_changes_its_key(bundle: Bundle, change: str) -> None:
    what, gpu = plan(bundle, lengths=LENGTHS), Gpu(name="A", compute=(8, 0))
    before = key(engine_facts(what, version="11.4", gpu=gpu))

    assert key(engine_facts(CHANGES[change](what), version="11.4", gpu=gpu)) != before
    assert key(engine_facts(what, version="11.5", gpu=gpu)) != before
    assert key(engine_facts(what, version="11.4", gpu=replace(gpu, name="B"))) != before
    assert key(engine_facts(what, version="11.4", gpu=replace(gpu, compute=(9, 0)))) != before
    # A name does not: the same graph under another is the same engine.
    assert (
        key(engine_facts(replace(what, name="b", variant="v"), version="11.4", gpu=gpu)) == before
    )


def test_what_the_hardware_may_differ_in_is_not_in_the_key(bundle: Bundle) -> None:
    one, other = Gpu(name="A", compute=(8, 0)), Gpu(name="B", compute=(8, 0))
    newer = Gpu(name="C", compute=(9, 0))

    def name(hardware: Any, gpu: Gpu) -> str:
        return key(engine_facts(plan(bundle, hardware=hardware), version="11.4", gpu=gpu))

    assert name("same-compute", one) == name("same-compute", other) != name("same-compute", newer)
    assert name("ampere-plus", one) == name("ampere-plus", newer)


@pytest.mark.parametrize(
    ("hardware", "level"),
    [("same-compute", Level.SAME_COMPUTE_CAPABILITY), ("ampere-plus", Level.AMPERE_PLUS)],
)
def test_the_builder_receives_the_hardware_that_the_engine_is_for(
    hardware: str, level: Level, bundle: Bundle, tmp_path: Path
) -> None:
    trt = StandIn()
    build(bundle, tmp_path / "cache", trt, hardware=hardware)

    assert trt.built[0][1].hardware_compatibility_level == level


@pytest.mark.parametrize(
    "again",
    [
        {"name": "Other GPU"},
        {"variant": "other"},
        {"max_batch": 8},
        {"hardware": "same-compute"},
    ],
)
def test_an_engine_for_something_else_is_built_next_to_the_first(
    again: dict[str, Any], bundle: Bundle, tmp_path: Path
) -> None:
    trt, cache = StandIn(), tmp_path / "cache"
    first = build(bundle, cache, trt)
    second = build(bundle, cache, trt, **again)

    assert second.path != first.path
    assert (second.reused, len(trt.built)) == (False, 2)
    assert build(bundle, cache, trt).reused


def test_another_version_of_tensorrt_builds_again(bundle: Bundle, tmp_path: Path) -> None:
    build(bundle, tmp_path / "cache", StandIn("10.13.3"))

    assert not build(bundle, tmp_path / "cache", StandIn("11.4.0")).reused


@pytest.mark.parametrize("suffix", [".engine", ".json"])
def test_an_engine_whose_writing_was_cut_short_is_built_again(
    suffix: str, bundle: Bundle, tmp_path: Path
) -> None:
    trt, cache = StandIn(), tmp_path / "cache"
    path = build(bundle, cache, trt).path.with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:100])

    assert not build(bundle, cache, trt).reused
    assert build(bundle, cache, trt).reused


def test_timings_are_kept_for_the_next_build_on_the_same_device(
    bundle: Bundle, tmp_path: Path
) -> None:
    trt, cache = StandIn(), tmp_path / "cache"
    build(bundle, cache, trt)
    build(bundle, cache, trt, max_batch=8)

    (kept,) = cache.glob("timings-11.4.0-Test-GPU.cache")
    assert kept.read_bytes() == b"++"  # each build read what the one before it had left
    assert trt.built[1][1].timings is not None
    assert trt.built[1][1].timings.data == b"+"


def test_timings_of_another_device_are_left_aside(bundle: Bundle, tmp_path: Path) -> None:
    trt, cache = StandIn(), tmp_path / "cache"
    cache.mkdir()
    (cache / "timings-11.4.0-Test-GPU.cache").write_bytes(b"another device")
    build(bundle, cache, trt)

    assert trt.built[0][1].timings is not None
    assert trt.built[0][1].timings.data == b""


def test_an_engine_that_gives_other_embeddings_is_not_kept(bundle: Bundle, tmp_path: Path) -> None:
    trt, cache = StandIn(), tmp_path / "cache"
    trt.replaced = text_graph(seed=1)

    with pytest.raises(BackendError, match="too far from the reference, so it is not kept"):
        build(bundle, cache, trt)
    assert not cache.exists()


def test_the_gate_is_the_one_that_the_variant_passed_into_the_bundle(tmp_path: Path) -> None:
    manifest = text_manifest(variants=("fp32", "int8"))
    gate = {"cosine_mean": 0.9, "cosine_worst": 0.5, "max_drop": 0.1}
    report = {"variants": {"int8": {"gate": gate}}}
    files = {**text_files(manifest), "report.json": json.dumps(report).encode()}
    bundle = Bundle.write(tmp_path / "tiny.attar", manifest, files)

    assert plan(bundle, variant="int8").gate == Gate(**gate)
    assert plan(bundle, variant="fp32").gate == FP32  # nothing is recorded of it


def test_messages_of_the_parser_and_the_builder_are_reported(
    bundle: Bundle, tmp_path: Path
) -> None:
    trt = StandIn()
    trt.errors = [ParserError(node="act", operator="Gelu", text="Assertion failed: rank")]
    with pytest.raises(
        NotSupported,
        match=r"cannot read variant fp32: node 'act' \(Gelu\) Assertion failed: rank",
    ):
        build(bundle, tmp_path / "cache", trt)
    trt.errors, trt.fails = [], True
    with pytest.raises(BackendError, match="could not build variant fp32; its messages are on"):
        build(bundle, tmp_path / "cache", trt)
    assert not (tmp_path / "cache").exists()


def test_a_foreign_operator_is_named_before_the_build_with_variants_that_have_none(
    tmp_path: Path,
) -> None:
    manifest = text_manifest(variants=("fp32", "int4", "int8"))
    files = text_files(manifest)
    files["variants/int4.onnx"] = foreign(files["variants/fp32.onnx"])
    bundle = Bundle.write(tmp_path / "tiny.attar", manifest, files)

    with pytest.raises(NotSupported) as refused:
        plan(bundle, variant="int4")

    assert str(refused.value) == (
        "variant int4 of tiny cannot become a TensorRT engine: node 'odd' (FastGelu) is of "
        "com.microsoft, and the parser takes standard operators only. "
        "Variants that could: fp32, int8"
    )


def foreign(graph: bytes) -> bytes:
    """Put an operator of ONNX Runtime's own at the end of a graph."""
    model = onnx.load_from_string(graph)
    (last,) = (node for node in model.graph.node if node.output[0] == "embedding")
    last.output[0] = "before"
    odd = onnx.helper.make_node(
        "FastGelu", ["before"], ["embedding"], name="odd", domain="com.microsoft"
    )
    model.graph.node.append(odd)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    serialized: bytes = model.SerializeToString()
    return serialized


def test_plans_that_cannot_be_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no variant 'fp16'; it has fp32, other"):
        plan(bundle, variant="fp16")
    with pytest.raises(
        InvalidInput, match=r"lengths must end at the longest text that tiny takes, 16; got \[8\]"
    ):
        plan(bundle, lengths=(8,))
    too_old = machine(StandIn(), compute=(7, 5))
    what = plan(bundle, hardware="ampere-plus")
    with pytest.raises(NotSupported, match=r"capability 7\.5; hardware='ampere-plus' needs 8\.0"):
        export_tensorrt(bundle, tmp_path / "cache", what, machine=too_old)


def test_without_tensorrt_the_extra_is_named(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'attar\[tensorrt\]'"):
        export_tensorrt(bundle, tmp_path / "cache", plan(bundle))
    assert not (tmp_path / "cache").exists()


def test_a_tensor_bundle_has_one_profile_and_its_own_numbers(tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_tensor_bundle(tmp_path / "image.attar", shape=(1, 8, 8)))
    trt = StandIn()
    what = plan(bundle, max_batch=5)
    engine = export_tensorrt(bundle, tmp_path / "cache", what, machine=machine(trt))

    assert [p.largest for p in what.profiles] == [{"image": (5, 1, 8, 8)}]
    assert engine.parity["worst"] == pytest.approx(1, abs=1e-6)


def test_a_batch_runs_under_the_first_profile_that_takes_it(bundle: Bundle, tmp_path: Path) -> None:
    trt = StandIn()
    what = plan(bundle, lengths=LENGTHS, max_batch=4)
    context = Context(build(bundle, tmp_path / "cache", trt, max_batch=4).path.read_bytes())
    encoder = attar.load(bundle.path, variant="fp32")

    for texts, profile in ((["cat", "sun"], 0), (["the cat sat on the mat"], 1)):
        rows = encoder.prepare(texts)
        width = max(row.tokens for row in rows)
        ids, mask = np.zeros((2, len(rows), width), np.int64)
        for i, row in enumerate(rows):
            ids[i, : row.tokens], mask[i, : row.tokens] = row.arrays
        feed = {"input_ids": ids, "attention_mask": mask}
        found = run(context, what.profiles, feed, output="embedding", dim=16, device="cpu")
        assert np.abs(found - encoder.infer(rows)).max() < 1e-6
        assert context.ran[-1][0] == profile
    long = {name: np.ones((1, 17), np.int64) for name in ("input_ids", "attention_mask")}
    with pytest.raises(InvalidInput, match="no profile of the engine takes"):
        run(context, what.profiles, long, output="embedding", dim=16, device="cpu")


def test_the_providers_options_repeat_each_input_once_a_profile(
    bundle: Bundle, tmp_path: Path
) -> None:
    options = provider_options(plan(bundle, lengths=LENGTHS, max_batch=8), tmp_path)

    assert options["trt_profile_min_shapes"] == (
        "input_ids:1x1,attention_mask:1x1,input_ids:1x5,attention_mask:1x5"
    )
    assert options["trt_profile_opt_shapes"] == options["trt_profile_max_shapes"]
    assert options["trt_profile_max_shapes"] == (
        "input_ids:8x4,attention_mask:8x4,input_ids:8x16,attention_mask:8x16"
    )
    for cache in ("engine", "timing"):
        assert options[f"trt_{cache}_cache_enable"] == "True"
        assert options[f"trt_{cache}_cache_path"] == str(tmp_path)
    assert options["trt_engine_hw_compatible"] == "False"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_the_provider_computes_in_the_variants_precision(precision: str, bundle: Bundle) -> None:
    what = replace(plan(bundle), precision=precision)
    options = provider_options(what, Path("cache"))

    on = {kind for kind in ("fp16", "bf16", "int8") if options[f"trt_{kind}_enable"] == "True"}
    assert on == ({precision} - {"fp32"})


def test_engines_of_two_graphs_do_not_share_a_name_in_the_providers_cache(bundle: Bundle) -> None:
    one, other = (
        provider_options(plan(bundle, variant=variant), Path("cache"))
        for variant in ("fp32", "other")
    )

    assert one["trt_engine_cache_prefix"] != other["trt_engine_cache_prefix"]
