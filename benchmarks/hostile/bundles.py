"""Bad bundles: each row is a damage to a sound one, the code of its refusal and its words.

The one list; tests/hostile/test_bundles.py opens each bundle of it on a device.
"""

import json
import os
import pickle
import shutil
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from attar.errors import Refusal
from attar.manifest import fingerprint, parse, serialise
from benchmarks.support.bundles import text_graph

Damage = Callable[[Path], Path]
"""Damages a sound bundle folder and gives the path to open."""

MODEL = "variants/fp32.onnx"

OWN = object()
"""Stands for the fingerprint of the bundle that is damaged."""

OTHER_SPACE = f"sha256:{'0' * 64}"


def manifest(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change what the manifest says."""

    def damage(folder: Path) -> Path:
        document = json.loads((folder / "manifest.json").read_bytes())
        change(document)
        (folder / "manifest.json").write_text(json.dumps(document))
        return folder

    return damage


def fields(**values: object) -> Damage:
    """Set fields of the manifest; `a__b=1` sets the field b of a."""

    def change(document: dict[str, Any]) -> None:
        for path, value in values.items():
            *above, last = path.split("__")
            place: Any = document
            for name in above:
                place = place[int(name)] if isinstance(place, list) else place[name]
            place[last] = value

    return manifest(change)


def declared(count: int = 1, **changes: object) -> Damage:
    """Declare a space that the encoder's queries may search, with wrong fields; OWN is its own."""

    def change(document: dict[str, Any]) -> None:
        own = document["fingerprint"]
        entry = {"fingerprint": OTHER_SPACE, "query_fingerprint": own}
        entry |= {"cosine": 0.9, "recall_at_10": 0.5, **changes}
        entry = {key: own if value is OWN else value for key, value in entry.items()}
        document["compatible_with"] = [entry] * count

    return manifest(change)


def raw(data: bytes) -> Damage:
    """Put these bytes in the manifest's place."""

    def damage(folder: Path) -> Path:
        (folder / "manifest.json").write_bytes(data)
        return folder

    return damage


def listed(name: str, data: bytes) -> Damage:
    """Put a file into the bundle that the manifest lists with its right hash."""

    def change(document: dict[str, Any]) -> None:
        others = [entry for entry in document["files"] if entry["path"] != name]
        entry = {"path": name, "sha256": sha256(data).hexdigest(), "bytes": len(data)}
        document["files"] = [*others, entry]

    def damage(folder: Path) -> Path:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        return manifest(change)(folder)

    return damage


def model(change: Callable[[onnx.ModelProto], object]) -> Damage:
    """Change the graph."""
    proto = onnx.load_from_string(text_graph())
    change(proto)
    return listed(MODEL, proto.SerializeToString())


def entry(name: str) -> Damage:
    """List a path in the manifest that no file could have."""

    def change(document: dict[str, Any]) -> None:
        document["files"].append({"path": name, "sha256": "0" * 64, "bytes": 0})

    return manifest(change)


def sealed(damage: Damage) -> Damage:
    """Damage, then compute the fingerprint anew, as a forger would."""

    def forge(folder: Path) -> Path:
        path = damage(folder) / "manifest.json"
        forged = parse(path.read_bytes())
        path.write_bytes(serialise(replace(forged, fingerprint=fingerprint(forged))))
        return folder

    return forge


def zipped(
    change: Callable[[zipfile.ZipFile], object], *, compression: int = zipfile.ZIP_STORED
) -> Damage:
    """Zip the bundle by hand; `change` is called before the directory at its end is written."""

    def damage(folder: Path) -> Path:
        archive = folder.with_suffix(".zip")
        with zipfile.ZipFile(archive, "w", compression) as file:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    file.write(path, path.relative_to(folder).as_posix())
            change(file)
        return archive

    return damage


def zip_entry(name: str, data: bytes = b"{}", *, mode: int = stat.S_IFREG) -> Damage:
    def change(file: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("x")
        file.writestr(info, data)
        info.filename, info.external_attr = name, mode << 16

    return zipped(change)


def zip_claims(size: int, *names: str) -> Damage:
    """Let a zip's directory claim that these entries unpack to `size` bytes."""

    def change(file: zipfile.ZipFile) -> None:
        for name in names:
            if name not in file.namelist():
                file.writestr(name, b"")
            file.getinfo(name).file_size = size

    return zipped(change)


def zip_bomb(folder: Path) -> Path:
    """Let an entry unpack to far more than the manifest and the zip's directory say."""
    size = (folder / "tokenizer.json").stat().st_size
    (folder / "tokenizer.json").write_bytes(bytes(10**7))

    def change(file: zipfile.ZipFile) -> None:
        file.getinfo("tokenizer.json").file_size = size

    return zipped(change, compression=zipfile.ZIP_DEFLATED)(folder)


def respelled(change: Callable[[bytearray], object]) -> Damage:
    """Zip the bundle, deflated, and change the finished archive's bytes."""

    def damage(folder: Path) -> Path:
        archive = zipped(lambda _: None, compression=zipfile.ZIP_DEFLATED)(folder)
        data = bytearray(archive.read_bytes())
        change(data)
        archive.write_bytes(data)
        return archive

    return damage


def renamed_in_header(data: bytearray) -> None:
    """Call an entry otherwise in its own header: streaming readers see another file."""
    at = data.index(b"report.json")
    data[at : at + 11] = b"../evil.txt"


def sized_in_header(data: bytearray) -> None:
    at = data.index(b"report.json") - 30
    data[at + 22 : at + 26] = struct.pack("<L", 10)


def hidden_in_64(data: bytearray) -> None:
    """Say in an entry's own header that its sizes stand in a field that is not there."""
    at = data.index(b"report.json") - 30
    data[at + 18 : at + 26] = b"\xff" * 8


def overlapped(data: bytearray) -> None:
    """Let two entries of the directory share one entry's bytes, as a quine of a bomb does."""
    second = data.rindex(b"PK\1\2")
    first = data.index(b"PK\1\2")
    data[second + 42 : second + 46] = data[first + 42 : first + 46]


def miscounted(data: bytearray) -> None:
    end = data.rindex(b"PK\5\6")
    data[end + 8 : end + 12] = struct.pack("<HH", 3, 3)


def prefixed(data: bytearray) -> None:
    """Put another archive's bytes in front: to some readers it is that one."""
    data[:0] = b"PK\3\4" + bytes(100)


OTHER = b"PK\3\4" + struct.pack("<5H3L2H", 20, 0, 0, 0, 33, 0, 0, 0, 5, 0) + b"a.txt"
"""An entry that no directory lists: who reads from the front unpacks it."""


def moved(data: bytearray, *, before: bytes = b"", behind: bytes = b"") -> None:
    """Put bytes before the entries or behind them, and say in the directory where all is now."""
    start = data.index(b"PK\1\2")
    at = start
    while data[at : at + 4] == b"PK\1\2":
        (offset,) = struct.unpack_from("<L", data, at + 42)
        struct.pack_into("<L", data, at + 42, offset + len(before))
        at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    struct.pack_into("<L", data, at + 16, start + len(before) + len(behind))
    data[start:start] = behind
    data[:0] = before


def extra_field(kind: int, value: bytes, *, size: int | None = None) -> Damage:
    """Add an entry with an extra field, which says another size if `size` is given."""

    def change(file: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("notes.txt")
        info.extra = struct.pack("<HH", kind, len(value) if size is None else size) + value
        file.writestr(info, b"")
        info.extra = b""

    return zipped(change)


def sizes_to_follow(data: bytearray) -> None:
    """Say in an entry's own header that its sizes stand behind it, where they do not."""
    data[6] |= 8


def crowded_zip(folder: Path) -> Path:
    """Give a zip of 5,000 empty entries: a hundred bytes each in a list of them."""

    def change(file: zipfile.ZipFile) -> None:
        for i in range(5000):
            file.writestr(f"{i}.txt", b"")

    return zipped(change)(folder)


def wide_zip(folder: Path) -> Path:
    """Give a zip whose directory is mostly comments."""

    def change(file: zipfile.ZipFile) -> None:
        for i in range(20):
            info = zipfile.ZipInfo(f"{i}.txt")
            info.comment = b"x" * 65_000
            file.writestr(info, b"")

    return zipped(change)(folder)


def zeros(folder: Path) -> Path:
    """Give a zip of 100 kB with a graph of 100 MB: deflate makes a thousandth of zeros."""
    listed(MODEL, bytes(10**8))(folder)
    return zipped(lambda _: None, compression=zipfile.ZIP_DEFLATED)(folder)


def sparse(name: str, size: int) -> Damage:
    """Give a bundle with a file that is listed and all holes."""

    def damage(folder: Path) -> Path:
        with (folder / name).open("wb") as file:
            file.truncate(size)
        entry = {"path": name, "sha256": "0" * 64, "bytes": size}

        def change(document: dict[str, Any]) -> None:
            others = [one for one in document["files"] if one["path"] != name]
            document["files"] = [*others, entry]

        return manifest(change)(folder)

    return damage


def endless(folder: Path) -> Path:
    """Put a pipe where a zip should be: opening it to read waits for a writer."""
    path = folder.with_suffix(".zip")
    os.mkfifo(path)
    return path


def piped_manifest(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    return folder


def multitude(folder: Path) -> Path:
    for i in range(4001):
        (folder / f"{i}.txt").touch()
    return folder


def twice_npz() -> bytes:
    file = BytesIO(npz(a=np.ones(9)))
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a.npy", archive.read("a.npy"))
    return file.getvalue()


def deflated_npz(size: int) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, a=np.zeros(size, np.uint8))
    return file.getvalue()


def misshapen_npz(shape: tuple[int, ...], data: bytes = b"", *, descr: str = "<f4") -> bytes:
    """Give an npz whose array has a header that asks for more than there is."""
    array = BytesIO()
    np.lib.format.write_array_header_1_0(
        array, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", array.getvalue() + data)
    return file.getvalue()


def zip_flag(file: zipfile.ZipFile) -> None:
    file.filelist[-1].flag_bits |= 1


def damaged_zip(folder: Path) -> Path:
    archive = zipped(lambda _: None)(folder)
    data = bytearray(archive.read_bytes())
    data[data.index(b"BertNormalizer")] ^= 1
    archive.write_bytes(data)
    return archive


def text_file(folder: Path) -> Path:
    path = folder.with_suffix(".attar.txt")
    path.write_text("hello")
    return path


def linked_file(folder: Path) -> Path:
    target = folder.parent / "elsewhere.json"
    shutil.move(folder / "tokenizer.json", target)
    (folder / "tokenizer.json").symlink_to(target)
    return folder


def linked_folder(folder: Path) -> Path:
    shutil.move(folder / "variants", folder.parent / "elsewhere")
    (folder / "variants").symlink_to(folder.parent / "elsewhere")
    return folder


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "notes.txt")
    return folder


def crowd(folder: Path) -> Path:
    for i in range(1001):
        (folder / f"{i}.txt").touch()
    return folder


def without(name: str) -> Damage:
    def damage(folder: Path) -> Path:
        (folder / name).unlink()
        return folder

    return damage


def appended(name: str) -> Damage:
    def damage(folder: Path) -> Path:
        with (folder / name).open("ab") as file:
            file.write(b" ")
        return folder

    return damage


def flipped(name: str) -> Damage:
    def damage(folder: Path) -> Path:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        return folder

    return damage


def unlisted(folder: Path) -> Path:
    (folder / "notes.txt").touch()
    return folder


def npz(**arrays: object) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # an object is what the test is about
    return file.getvalue()


def inflated_npz() -> bytes:
    """Claim an array of 3 GB in a few hundred bytes: header and directory agree."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        header = BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (3 * 10**9,)}
        )
        archive.writestr("a.npy", header.getvalue())
        archive.getinfo("a.npy").file_size = 3 * 10**9 + len(header.getvalue())
    return file.getvalue()


def marked() -> bytes:
    """Give a sound graph by a producer whose name stands where ONNX Runtime looks for its mark."""
    proto = onnx.load_from_string(text_graph())
    proto.ClearField("ir_version")
    data = b"\x08\x0a\x12\x04ORTM" + proto.SerializeToString()
    assert onnx.load_from_string(data).producer_name == "ORTM"
    return data


def keep_outside(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def hide_outside(proto: onnx.ModelProto) -> None:
    """Put the external tensor into a branch of an If, as deep as a graph can."""
    tensor = TensorProto(name="t", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [])
    proto.graph.node.append(
        helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    )


def call_foreign(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Run", [], [], domain="my.ops"))


def call_context(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("EPContext", [], [], domain="com.microsoft"))


def call_from_function(proto: onnx.ModelProto) -> None:
    node = helper.make_node("Run", [], [], domain="my.ops")
    proto.functions.append(helper.make_function("com.microsoft", "f", [], [], [node], []))


def rename_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = proto.graph.node[0].input[1] = "tokens"


def break_graph(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.add(name="axis", type=onnx.AttributeProto.INT, i=99)


def call_unknown(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = "NoSuchOperator"


def call_old_domain(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Scaler", ["rows"], ["y"], domain="ai.onnx.ml"))


def call_loop(proto: onnx.ModelProto) -> None:
    """Go round 10**15 times."""
    cond = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    same = helper.make_node("Identity", ["c"], ["d"])
    out = helper.make_tensor_value_info("d", TensorProto.BOOL, [])
    body = helper.make_graph(
        [same], "body", [helper.make_tensor_value_info("i", TensorProto.INT64, []), cond], [out]
    )
    proto.graph.node.append(helper.make_node("Loop", [], [], body=body))


def hold_graph(proto: onnx.ModelProto) -> None:
    """Put a graph where no operator looks for one."""
    body = helper.make_graph([], "body", [], [])
    proto.graph.node[0].attribute.add(name="g", type=onnx.AttributeProto.GRAPH).g.CopyFrom(body)


def define_function(proto: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["a"], ["b"])
    opset = helper.make_opsetid("", 18)
    proto.functions.append(
        helper.make_function("com.microsoft", "Gelu", ["a"], ["b"], [node], [opset])
    )


def set_session(proto: onnx.ModelProto) -> None:
    proto.metadata_props.add(key="ort_config", value="{}")


def hold_training(proto: onnx.ModelProto) -> None:
    proto.training_info.add().algorithm.name = "a"


def spread(proto: onnx.ModelProto) -> None:
    """Store one number of 10**10, as a sparse tensor."""
    one = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    at = helper.make_tensor("at", TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(one, at, [10**5, 10**5]))


def claim_more(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = 10**12


def weigh_nothing(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[2**40])


def swap_order(proto: onnx.ModelProto) -> None:
    first = proto.graph.node.pop(0)
    proto.graph.node.append(first)


def make_twice(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(proto.graph.node[0])


def say_twice(proto: onnx.ModelProto) -> None:
    """Give a node an attribute twice, of which one reader takes the first and one the last."""
    cast = proto.graph.node[1]
    cast.attribute.append(cast.attribute[0])


def say_two_kinds(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].attribute[0].ints.append(1)


def import_twice(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 11))


def cut_in_pieces(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].segment.begin = 0


def rise(proto: onnx.ModelProto) -> None:
    """Give a tensor 100,000 axes."""
    proto.graph.initializer[0].dims.extend([1] * 100_000)


def split_in_more(proto: onnx.ModelProto) -> None:
    parts = helper.make_node("Split", ["pooled"], ["a", "b", "c"], axis=1, num_outputs=1)
    proto.graph.node.append(parts)


def batch_below_none(proto: onnx.ModelProto) -> None:
    at = onnx.numpy_helper.from_array(np.array([1]), "at")
    proto.graph.initializer.append(at)
    proto.graph.node.append(
        helper.make_node("GatherND", ["pooled", "at"], ["g"], batch_dims=-(2**31))
    )


def leave_out(kind: str) -> Callable[[onnx.ModelProto], object]:
    return lambda proto: proto.graph.node.append(helper.make_node(kind, ["pooled", ""], ["y"]))


def call_quantised(kind: str) -> Callable[[onnx.ModelProto], object]:
    node = helper.make_node(kind, ["pooled"] * 5, ["y"], domain="com.microsoft")
    return lambda proto: proto.graph.node.append(node)


def repeat(proto: onnx.ModelProto) -> None:
    count = 5001 - len(proto.graph.node)
    names = ["pooled", *map(str, range(count))]
    proto.graph.node.extend(
        helper.make_node("Relu", [names[i]], [names[i + 1]]) for i in range(count)
    )


def computed(*nodes: onnx.NodeProto, **constants: object) -> Damage:
    """Add nodes that read constants alone."""

    def change(proto: onnx.ModelProto) -> None:
        for name, value in constants.items():
            array = np.asarray(value, None if isinstance(value, float) else np.int64)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        proto.graph.node.extend(nodes)

    return model(change)


FILL = helper.make_node("ConstantOfShape", ["shape"], ["c0"])
PRODUCTS = [helper.make_node("MatMul", [f"c{i}", f"c{i}"], [f"c{i + 1}"]) for i in range(1000)]
WIDE = [helper.make_node("Mul", [f"n{i}", f"n{i}"], [f"n{i + 1}"]) for i in range(4)]
DOUBLED = [helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(60)]


def call(kind: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), ["c"], **attributes)


def refused(code: Refusal, damage: Damage, message: str) -> Any:
    return pytest.param(code, damage, message, id=f"{code}: {message}")


NARROW = fields(output__dim=8, output__dims=[8], ranges=None)
DUPLICATE_VARIANT = manifest(lambda m: m["variants"].append(m["variants"][0]))
BIG = 3 * 2**30
EVERY_FILE = ("manifest.json", "report.json", "tokenizer.json", MODEL, "notes.txt")

TABLE = [
    refused("not-a-bundle", text_file, "neither a folder nor a zip"),
    refused("bad-zip", damaged_zip, "tokenizer.json is damaged"),
    refused("bad-zip", zip_bomb, "tokenizer.json is damaged"),
    refused("bad-zip", zipped(zip_flag), "encrypted or oddly compressed"),
    refused("bad-zip", zipped(lambda _: 0, compression=zipfile.ZIP_LZMA), "oddly compressed"),
    refused("bad-zip", respelled(renamed_in_header), "report.json has a header that the directory"),
    refused("bad-zip", respelled(sized_in_header), "report.json has a header that the directory"),
    refused("bad-zip", respelled(hidden_in_64), "an entry's header lacks its sizes of 64 bits"),
    refused("bad-zip", respelled(overlapped), "overlaps another entry"),
    refused("bad-zip", respelled(miscounted), "its directory has 4 entries, and says 3"),
    refused("bad-zip", respelled(prefixed), "its directory is not where its end says"),
    refused(
        "bad-zip", respelled(lambda d: moved(d, before=OTHER)), "bytes before manifest.json are"
    ),
    refused("bad-zip", respelled(lambda d: moved(d, before=b"#!sh\n")), "5 bytes before manifest"),
    refused(
        "bad-zip", respelled(lambda d: moved(d, behind=OTHER)), "bytes before the directory are"
    ),
    refused("bad-zip", extra_field(0x7075, b"\1" + bytes(4) + b"../a"), "an extra field 0x7075"),
    refused("bad-zip", extra_field(0x5455, b"", size=9), "an entry's extra fields are cut"),
    refused("bad-zip", respelled(sizes_to_follow), "lacks the sizes that should stand behind it"),
    refused("bad-zip", crowded_zip, "it has 5004 entries; limit 4000"),
    refused("bad-zip", wide_zip, "limit 1048576"),
    refused("bad-zip", zeros, "to 100000000 bytes, more than 100 times; store it"),
    refused("bad-json", raw(b'{"name": '), "Expecting value"),
    refused("bad-json", raw(b'{"name": 1, "name": 2}'), "a key occurs twice"),
    refused("bad-json", raw(b'{"name": NaN}'), "NaN is not a finite number"),
    refused("bad-json", raw(b'{"name": 1e999}'), "1e999 is not a finite number"),
    refused("bad-json", raw(b'{"name": 18446744073709551616}'), "does not fit in 64 bits"),
    refused("bad-json", raw(b'{"name": "\\ud800"}'), "surrogates not allowed"),
    refused("bad-json", raw(b'{"name": "\xff"}'), "can't decode byte 0xff"),
    refused("bad-json", raw(b"[" * 100_000), "recursion"),
    refused("bad-json", listed("report.json", b"[]"), "must be an object; got list"),
    refused("schema-version", fields(schema_version="2.0"), "has schema_version '2.0'"),
    refused("schema-version", fields(schema_version=1), "has schema_version 1;"),
    refused("schema-version", raw(b"{}"), "has schema_version None"),
    refused("field", raw(b"[]"), "manifest.json must be an object; got []"),
    refused("field", manifest(lambda m: m.pop("name")), "manifest lacks name"),
    refused("field", fields(name="../x"), "name must be up to 128 letters"),
    refused("field", fields(version=1), "manifest.version must be a string; got 1"),
    refused("field", fields(max_length=True), "max_length must be a whole number; got true"),
    refused("field", fields(max_length=None), "max_length must be positive for text"),
    refused(
        "field",
        fields(preprocessing__truncation_side="middle"),
        "preprocessing.truncation_side must be right or left; got",
    ),
    refused("field", fields(inputs=[]), "inputs must be input_ids and attention_mask"),
    refused("field", fields(inputs__0__dtype="int32"), "inputs must be int64 of 2 axes"),
    refused("field", fields(inputs__0__dtype="string"), "dtype must be one of float32"),
    refused("field", fields(inputs__0__shape=[2, 3]), "shape must be 'batch' first"),
    refused("field", fields(inputs__0__shape=["batch", 0]), "positive sizes and names"),
    refused("field", fields(inputs__0__shape=["batch", *[2**62] * 20_000]), "of at most 64 axes"),
    refused("field", fields(inputs__0__shape=["batch", 1.5]), "a whole number or a string"),
    refused("field", fields(modality="image"), "inputs must be one tensor for image"),
    refused("field", fields(preprocessing={}), "preprocessing.tokenizer must be a file"),
    refused("field", fields(preprocessing__prompts=[]), "prompts must be an object; got []"),
    refused("field", fields(output__dims=[]), "rising widths up to dim 16; got []"),
    refused("field", fields(output__dims=[8, 8, 16]), "rising widths up to dim 16"),
    refused("field", fields(output__dims=[8]), "rising widths up to dim 16; got [8]"),
    refused("field", fields(output__dims=[0, 16]), "rising widths up to dim 16; got [0"),
    refused(
        "field",
        fields(output__dims=[8, 16], output__normalized=False),
        "dim alone where normalized",
    ),
    refused("field", fields(modality="text_pair"), "output.activation must be identity or sigmoid"),
    refused(
        "field",
        fields(modality="text_pair", output__activation="sigmoid"),
        'output must be one score of any size; got ["embedding", 16, true]',
    ),
    refused(
        "field", fields(output__activation="sigmoid"), "output.activation must be null for text"
    ),
    refused("field", fields(ranges__low=[0.0]), "ranges must be 16 low and 16 high; got [1, 16]"),
    refused("field", fields(ranges__low=[1] * 16), "ranges[0] must be low below high"),
    refused("field", fields(reference="int8"), "reference must be one of the variants"),
    refused("field", fields(variants__0__file="tokenizer.json"), "must be an .onnx file"),
    refused("field", fields(variants__0__name="a b"), "variants.name must be up to 128"),
    refused("field", fields(variants__0__parity=1), "parity must be an object; got 1"),
    refused("field", fields(variants__0__latency={}), "latency lacks p50_ms, threads"),
    refused("field", fields(compatible_with={}), "compatible_with must be a list; got {}"),
    refused("field", fields(compatible_with=[1]), "compatible_with[0] must be an object; got 1"),
    refused("field", fields(compatible_with=[{}]), "lacks fingerprint, query_fingerprint, cosine,"),
    refused("field", declared(65), "compatible_with must be at most 64 entries; got 65"),
    refused("field", declared(2), "compatible_with[1].fingerprint must be listed once"),
    refused("field", declared(fingerprint=OWN), "must be of another space than its own"),
    *(
        refused("field", declared(fingerprint=space), "must be sha256: and 64 hex digits")
        for space in ("", "*", "sha256:0", "0" * 64, f"sha256:{'A' * 64}", f"{OTHER_SPACE}\n")
    ),
    refused("field", declared(fingerprint=None), "fingerprint must be a string; got null"),
    refused("field", declared(query_fingerprint=OTHER_SPACE), "fingerprint sha256:"),
    refused("field", declared(query_fingerprint=""), "measure again; got"),
    refused("field", declared(cosine="1"), "cosine must be a number; got"),
    *(
        refused("field", declared(cosine=cosine), "cosine must be above 0, up to 1; got")
        for cosine in (-1, 0, 1.01)
    ),
    *(
        refused("field", declared(recall_at_10=recall), "recall_at_10 must be from 0 to 1; got")
        for recall in (-0.1, 2)
    ),
    refused("field", fields(files__0__sha256="0"), "sha256 must be 64 hex digits"),
    refused("field", fields(files__0__bytes=-1), "bytes must be 0 or more; got -1"),
    *(
        refused("hostile-path", hostile(name), repr(name)[1:-1])
        for hostile in (entry, zip_entry)
        for name in (
            "../out.json",
            "/etc/out.json",
            "a/../../out.json",
            "a\\out.json",
            "C:out.json",
            "a//out.json",
            "./out.json",
            "a./out.json",
            "\u202eout.json",
        )
    ),
    refused("symlink", linked_file, "tokenizer.json is a link"),
    refused("symlink", linked_folder, "variants is a link"),
    refused("symlink", pipe, "notes.txt is a link or a device"),
    refused("symlink", zip_entry("a.json", b"/etc/passwd", mode=stat.S_IFLNK), "a.json is a link"),
    refused("duplicate-path", entry("tokenizer.json"), "listed twice, or differs only in case"),
    refused("duplicate-path", entry("Tokenizer.json"), "listed twice, or differs only in case"),
    refused("duplicate-path", entry("manifest.json"), "listed twice"),
    refused("duplicate-path", entry("signature.json"), "listed twice"),
    refused("duplicate-path", zip_entry("tokenizer.json"), "holds tokenizer.json twice"),
    refused("duplicate-variant", DUPLICATE_VARIANT, "two variants are called fp32"),
    *(
        refused("file-kind", listed(name, b""), f"files[{name}] is no kind")
        for name in ("head.pkl", "model.pt", "model.bin", "run.py", "lib.so", "ONNX")
    ),
    refused("symlink", piped_manifest, "manifest.json is a link or a device"),
    refused("not-a-bundle", endless, "cannot be read: it is no plain file"),
    refused("missing-file", without("manifest.json"), "has no manifest.json at its top"),
    refused("missing-file", without("tokenizer.json"), "lacks tokenizer.json, which its manifest"),
    refused("missing-file", entry("more.json"), "lacks more.json"),
    refused("missing-file", fields(variants__0__file="a.onnx"), "'a.onnx', which files does not"),
    refused("missing-file", fields(preprocessing__tokenizer="b.json"), "'b.json', which files"),
    refused("unlisted-file", unlisted, "holds notes.txt, which its manifest does not list"),
    refused("unlisted-file", zip_entry("evil.pkl"), "holds evil.pkl"),
    refused("too-large", raw(b" " * (4 * 2**20 + 1)), "more than 4194304 bytes"),
    refused("too-large", crowd, "has 1005 files; limit 1000"),
    refused("too-large", multitude, "has more than 4000 files; limit 1000"),
    refused("too-large", sparse("tokenizer.json", 10**8), "100000000 bytes; limit 67108864"),
    refused("too-large", sparse("report.json", 10**7), "10000000 bytes; limit 4194304"),
    refused("too-large", fields(files__0__bytes=BIG), "has 3221225472 bytes; limit 2147483648"),
    refused("too-large", zip_claims(BIG, MODEL), "declares 3221225472 bytes; limit 2147483648"),
    refused("too-large", zip_claims(2 * 2**30, *EVERY_FILE), "10737418240 bytes; limit 8589934592"),
    refused("too-large", listed("head.npz", inflated_npz()), "head.npz unpacks to 3000000128"),
    refused("wrong-size", appended("tokenizer.json"), "and the manifest says"),
    refused("wrong-size", zip_claims(10, MODEL), "has 10 bytes and the manifest says"),
    refused("wrong-hash", flipped("tokenizer.json"), "tokenizer.json is damaged: its sha256 is"),
    refused("wrong-hash", flipped(MODEL), "fp32.onnx is damaged: its sha256 is"),
    refused("fingerprint", fields(fingerprint="sha256:0"), "declares fingerprint 'sha256:0'"),
    refused("fingerprint", fields(preprocessing__prompts__query="q: "), "its content gives"),
    refused("fingerprint", fields(output__normalized=False), "its content gives"),
    refused("not-onnx", listed(MODEL, b""), "has no IR version"),
    refused("not-onnx", listed(MODEL, pickle.dumps({"weights": [1, 2]})), "is not an ONNX model"),
    refused("not-onnx", listed(MODEL, text_graph()[:-9]), "runs past the end"),
    refused("not-onnx", listed(MODEL, marked()), "has ORTM at byte 4, the mark of ONNX Runtime's"),
    refused("not-onnx", model(lambda m: m.ClearField("opset_import")), "it has no opset"),
    refused("not-onnx", model(claim_more), "of shape [1000000000000, 16] needs 64000000000000"),
    refused("not-onnx", model(weigh_nothing), "needs 1099511627776 numbers or bytes"),
    refused("not-onnx", model(swap_order), "reads 'rows', which nothing before it makes"),
    refused("not-onnx", model(make_twice), "'rows' is made twice"),
    refused("not-onnx", model(say_twice), "Cast has an attribute twice"),
    refused("not-onnx", model(say_two_kinds), "'to' of Cast is of type 2 and has name, i, ints"),
    refused("not-onnx", model(import_twice), "two versions of one domain's operators"),
    refused("not-onnx", model(cut_in_pieces), "or is one of several pieces"),
    refused("not-onnx", model(rise), "has 100002 dims; limit 64"),
    refused("not-onnx", model(split_in_more), "Split has num_outputs 1 and 3 outputs"),
    refused("not-onnx", model(batch_below_none), "GatherND has batch_dims -2147483648; 0 to 64"),
    *(
        refused("not-onnx", model(leave_out(kind)), f"{kind} leaves an input out")
        for kind in ("Einsum", "Max", "Mean", "Min", "Sum")
    ),
    refused("not-onnx", model(repeat), "it has 5001 nodes; limit 5000"),
    refused("external-data", model(keep_outside), "keeps a tensor in another file"),
    refused("external-data", model(hide_outside), "keeps a tensor in another file"),
    refused("foreign-operator", model(call_foreign), "operators of domain 'my.ops'"),
    refused("foreign-operator", model(call_context), "calls EPContext"),
    refused("foreign-operator", model(call_from_function), "operators of domain 'my.ops'"),
    refused("foreign-operator", model(call_unknown), "calls NoSuchOperator of ai.onnx, which is"),
    *(
        refused("foreign-operator", model(call_quantised(kind)), f"calls {kind} of com.microsoft")
        for kind in ("QLinearConcat", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearWhere")
    ),
    refused("foreign-operator", model(call_old_domain), "operators of domain 'ai.onnx.ml'"),
    refused("foreign-operator", model(call_loop), "calls Loop of ai.onnx"),
    refused("foreign-operator", model(hold_graph), "has graphs within its nodes"),
    refused("foreign-operator", model(define_function), "has functions of its own; inline them"),
    refused("foreign-operator", model(hold_training), "has what it was trained by"),
    refused("foreign-operator", model(set_session), "has options for ONNX Runtime's session"),
    refused("unbounded", model(spread), "a sparse tensor of shape [100000, 100000]"),
    refused("unbounded", computed(FILL, *PRODUCTS, shape=[4096, 4096]), "'c1' by MatMul; a file"),
    refused("unbounded", computed(FILL, shape=[10**14]), "'c0' by ConstantOfShape; a file of"),
    refused(
        "unbounded",
        computed(*WIDE, helper.make_node("ConstantOfShape", ["n4"], ["c"]), n0=[10]),
        "computes 10000000000000004 numbers from constants up to 'c' by ConstantOfShape",
    ),
    refused("unbounded", computed(FILL, *DOUBLED, shape=[1]), "by Concat; a file of"),
    refused("unbounded", computed(call("Range", "a", "b", "d"), a=0, b=10**12, d=1), "by Range"),
    refused("unbounded", computed(call("Tile", "a", "b"), a=[1], b=[10**12]), "by Tile"),
    refused("unbounded", computed(call("Expand", "a", "b"), a=[1], b=[10**6] * 2), "by Expand"),
    refused("unbounded", computed(call("Expand", "rows", "b"), b=[10**6] * 3), "by Expand"),
    refused("unbounded", computed(call("Pad", "a", "b"), a=[1], b=[10**12, 0]), "by Pad"),
    refused("unbounded", computed(call("OneHot", "a", "b", "v"), a=[1], b=10**12, v=[0, 1]), "by"),
    refused(
        "unbounded",
        computed(call("Resize", "a", "", "", "b"), a=[[[[1]]]], b=[1, 1, 10**6, 10**6]),
        "by Resize",
    ),
    refused("unbounded", computed(call("HannWindow", "n"), n=10**12), "by HannWindow"),
    refused("unbounded", computed(call("ConstantOfShape", "n"), n=[-1, 4]), "its shape is (-1, 4)"),
    refused("unbounded", computed(call("Det", "a"), a=[[1.0]]), "attar has no rule for it"),
    refused("unbounded", computed(call("Expand", "a", "b"), a=1, b=[[1, 1]]), "one axis is due"),
    refused("unbounded", computed(call("Tile", "rows", "b"), b=[[1, 2, 1]]), "shape (1, 3), and"),
    refused("unbounded", computed(call("MatMul", "a", "a"), a=1), "index out of range"),
    refused("unbounded", computed(call("Gather", "a", "a", axis=[0]), a=[1]), "axis is of type 7"),
    refused("unbounded", computed(call("Transpose", "a", perm=0), a=[1]), "perm is of type 2"),
    refused("unbounded", computed(call("Constant", value="x")), "value is no number"),
    refused("bad-arrays", listed("head.npz", npz(a=np.array([{}]))), "a.npy holds objects"),
    refused("bad-arrays", listed("head.npz", b"PK"), "not an npz of plain arrays"),
    refused("bad-arrays", listed("head.npz", npz(a=np.ones(9))[:-40]), "not an npz of plain"),
    refused("bad-arrays", listed("head.npz", twice_npz()), "it holds an array twice"),
    refused("bad-arrays", listed("head.npz", deflated_npz(10**8)), "more than 100 times"),
    refused(
        "bad-arrays", listed("head.npz", misshapen_npz((2**40, 2**40))), "holds objects or is cut"
    ),
    refused("bad-arrays", listed("head.npz", misshapen_npz((-1,), b"1234")), "holds objects or is"),
    refused(
        "bad-arrays",
        listed("head.npz", misshapen_npz((10**9,), descr="<U0")),
        "it holds 1000000000 items of no bytes",
    ),
    refused("tokenizer", sealed(listed("tokenizer.json", b"{}")), "the tokenizer cannot be read"),
    refused("tokenizer", sealed(fields(max_length=2)), "leaves no room besides 2 special tokens"),
    refused("signature", sealed(model(rename_input)), "has input tokens tensor(int64)"),
    refused("signature", sealed(NARROW), "says embedding float32 ['batch', 8]"),
    refused("unloadable", sealed(model(break_graph)), "cannot load variants/fp32.onnx"),
]
