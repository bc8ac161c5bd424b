"""Bad commands: what each command may be given, and the text that its refusal must contain.

The one list; tests/hostile/test_commands.py holds the commands to it, and
benchmarks/bad_command_table.py prints it with the messages that came back. What `import` may be
given has a list of its own, benchmarks/hostile/folders.py.
"""

import json
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from onnx import helper

from attar.bench import bench
from attar.bundle import Bundle
from attar.cli.main import main
from attar.training.checkpoints import encoder_folder

from ..support.bundles import (
    text_files,
    text_graph,
    text_manifest,
    tiny_bundle,
    tiny_tensor_bundle,
    tokenizer_json,
)
from ..support.encoders import tiny_encoder
from ..support.teachers import bert_folder

Kind = Literal["damaged", "foreign", "hostile", "mistaken"]
Make = Callable[[Path], list[object]]
"""Lays something bad in a folder and gives the command's arguments."""

PEM: Final = Encoding.PEM

NEW: Final = "new"
"""What a command would write is called this."""


@dataclass(frozen=True, slots=True)
class Case:
    """One bad command, and text of its message."""

    command: str
    kind: Kind
    fault: str
    refusal: tuple[str, ...]
    make: Make

    def __str__(self) -> str:
        return f"{self.command}: {self.kind}, {self.fault}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: exit code, text on stderr, and files that were not there before."""

    status: int
    message: str
    written: tuple[str, ...]


# Bundles that every command refuses alike.


def sound(folder: Path) -> Path:
    return tiny_bundle(folder / "tiny.attar")


def nothing(folder: Path) -> Path:
    return folder / "nothing.attar"


def other_file(folder: Path) -> Path:
    path = folder / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    return path


def cut_graph(folder: Path) -> Path:
    path = sound(folder)
    graph = path / "variants" / "fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-10])
    return path


def flipped_bit(folder: Path) -> Path:
    path = sound(folder)
    graph = path / "variants" / "fp32.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    return path


def cut_manifest(folder: Path) -> Path:
    path = sound(folder)
    manifest = path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:200])
    return path


def cut_zip(folder: Path) -> Path:
    archive = Bundle.pack(sound(folder), folder / "tiny.zip").path
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    return archive


def deep_manifest(folder: Path) -> Path:
    path = sound(folder)
    (path / "manifest.json").write_text("[" * 100_000, "utf-8")
    return path


def later_version(folder: Path) -> Path:
    path = sound(folder)
    document = json.loads((path / "manifest.json").read_text("utf-8"))
    (path / "manifest.json").write_text(json.dumps({**document, "schema_version": "9.0"}), "utf-8")
    return path


def climbing_zip(folder: Path) -> Path:
    archive = folder / "climbing.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("manifest.json", "{}")
        file.writestr("../climbed.json", "{}")
    return archive


def linked_file(folder: Path) -> Path:
    path = sound(folder)
    (path / "tokenizer.json").unlink()
    (path / "tokenizer.json").symlink_to("/etc/passwd")
    return path


def foreign_operator(folder: Path) -> Path:
    """Hash a graph rightly that calls somebody's code."""
    path = sound(folder)
    model = onnx.load_from_string(text_graph())
    model.graph.node.append(helper.make_node("Run", ["rows"], ["ran"], domain="com.evil"))
    (path / "variants" / "fp32.onnx").write_bytes(model.SerializeToString())
    return relisted(path)


def hidden_pickle(folder: Path) -> Path:
    path = sound(folder)
    (path / "extra.pkl").write_bytes(pickle.dumps({"a": 1}))
    return path


def relisted(path: Path) -> Path:
    """Give a bundle's manifest the hashes of what lies there now, as a forger would."""
    document = json.loads((path / "manifest.json").read_text("utf-8"))
    for entry in document["files"]:
        data = (path / entry["path"]).read_bytes()
        entry |= {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    (path / "manifest.json").write_text(json.dumps(document), "utf-8")
    return path


BAD_BUNDLES: tuple[tuple[Kind, str, tuple[str, ...], Callable[[Path], Path]], ...] = (
    ("mistaken", "no such bundle", ("no bundle at", "nothing.attar"), nothing),
    (
        "damaged",
        "a graph that was cut",
        ("fp32.onnx has", "fetch or export", "wrong-size"),
        cut_graph,
    ),
    (
        "damaged",
        "one bit flipped",
        ("fp32.onnx is damaged", "fetch or export", "wrong-hash"),
        flipped_bit,
    ),
    (
        "damaged",
        "a manifest that was cut",
        ("manifest.json is not strict JSON", "bad-json"),
        cut_manifest,
    ),
    ("damaged", "half a zip", ("tiny.zip", "neither a folder nor a zip", "not-a-bundle"), cut_zip),
    (
        "foreign",
        "a picture",
        ("picture.png", "neither a folder nor a zip", "not-a-bundle"),
        other_file,
    ),
    (
        "foreign",
        "a later format",
        ("schema_version '9.0'", "export again", "schema-version"),
        later_version,
    ),
    ("hostile", "a manifest nested too deep", ("manifest.json", "bad-json"), deep_manifest),
    ("hostile", "a path that climbs out", ("'../climbed.json'", "hostile-path"), climbing_zip),
    ("hostile", "a link to a file outside", ("tokenizer.json is a link", "symlink"), linked_file),
    ("hostile", "an operator that is code", ("'com.evil'", "foreign-operator"), foreign_operator),
    (
        "hostile",
        "a pickle that is not listed",
        ("extra.pkl", "remove it", "unlisted-file"),
        hidden_pickle,
    ),
)


def private_key(folder: Path) -> Path:
    """Write a private key, as openssl does."""
    path = folder / "key.pem"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def public_key(folder: Path) -> Path:
    path = folder / "public.pem"
    key = Ed25519PrivateKey.generate().public_key()
    path.write_bytes(key.public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


BUNDLE_COMMANDS: Final[dict[str, Callable[[Path, Path], list[object]]]] = {
    "embed": lambda bundle, _: ["embed", bundle, "a text"],
    "inspect": lambda bundle, _: ["inspect", bundle],
    "inspect --ops": lambda bundle, _: ["inspect", bundle, "--ops"],
    "bench": lambda bundle, folder: ["bench", bundle, "--out", folder / f"{NEW}.json"],
    "verify": lambda bundle, _: ["verify", bundle],
    "report": lambda bundle, folder: ["report", bundle, "--out", folder / f"{NEW}.html"],
    "sign": lambda bundle, folder: ["sign", bundle, "--key", private_key(folder)],
    "serve": lambda bundle, folder: ["serve", bundle, "--port", 0, "--data-dir", folder / NEW],
    "export-triton": lambda bundle, folder: ["export-triton", bundle, folder / NEW],
    "export-tensorrt": lambda bundle, folder: ["export-tensorrt", bundle, folder / NEW],
}
"""Commands that take a bundle, with what they need besides."""


def of_bundles() -> Iterator[Case]:
    for command, arguments in BUNDLE_COMMANDS.items():
        for kind, fault, refusal, make in BAD_BUNDLES:

            def both(
                folder: Path,
                make: Callable[[Path], Path] = make,
                arguments: Callable[[Path, Path], list[object]] = arguments,
            ) -> list[object]:
                return arguments(make(folder), folder)

            yield Case(command, kind, fault, refusal, both)


# What else each command may be given.


def sound_with(command: str, *options: object) -> Make:
    """Give the command a sound bundle and these options."""
    return lambda folder: [*BUNDLE_COMMANDS[command](sound(folder), folder), *options]


def of_arrays(command: str, *options: object) -> Make:
    """Give the command a sound bundle of an image encoder."""
    return lambda folder: [
        *BUNDLE_COMMANDS[command](tiny_tensor_bundle(folder / "pixels.attar"), folder),
        *options,
    ]


def written(command: str, option: str, name: str, content: bytes) -> Make:
    """Give the command a sound bundle, and a file of this content."""

    def make(folder: Path) -> list[object]:
        (folder / name).write_bytes(content)
        return [*BUNDLE_COMMANDS[command](sound(folder), folder), option, folder / name]

    return make


def bench_of_another(folder: Path) -> list[object]:
    other = tiny_bundle(folder / "other.attar", seed=5)
    report = bench(other, lengths=(4,), batches=(1,), threads=(1,), seconds=0.01)
    (folder / "bench.json").write_text(json.dumps(report), "utf-8")
    return [*sound_with("report")(folder), "--bench", folder / "bench.json"]


def pickled_items(folder: Path) -> list[object]:
    np.save(folder / "items.npy", np.array([{"a": 1}], object), allow_pickle=True)
    return of_arrays("verify", "--items", folder / "items.npy")(folder)


def wrong_items(folder: Path) -> list[object]:
    np.save(folder / "items.npy", np.zeros((3, 2, 2), np.float32))
    return of_arrays("verify", "--items", folder / "items.npy")(folder)


def other_teacher(folder: Path) -> list[object]:
    """Compare a bundle of 8 dimensions with a teacher of 16."""
    manifest = text_manifest(dim=8)
    bundle = Bundle.write(folder / "tiny.attar", manifest, text_files(manifest)).path
    return ["verify", bundle, "--against", bert_folder(folder / "teacher")]


def empty_teacher(folder: Path) -> list[object]:
    (folder / "teacher").mkdir()
    return sound_with("verify", "--against", folder / "teacher")(folder)


def not_runnable(folder: Path) -> list[object]:
    manifest = text_manifest(cpu_flags={"fp32": ("flux9",)})
    bundle = Bundle.write(folder / "x.attar", manifest, text_files(manifest)).path
    return ["bench", bundle, "--out", folder / f"{NEW}.json"]


def pairs(folder: Path, lines: int = 20) -> Path:
    path = folder / "pairs.jsonl"
    rows = (
        {"name": f"n{i}", "summary": f"the cat {i}", "body": f"a dog {i}"} for i in range(lines)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def documents(folder: Path, count: int = 12) -> Path:
    """Write so many documents with a title; up to twelve, all can be adapted to."""
    path = folder / "documents.jsonl"
    letters = "abcdefghijklmnopqrstuvwxyz"
    rows = (
        {
            "title": f"red sky {letters[i]}",
            "text": "the cat sat on the mat " + " ".join(letters[i + 1 : i + 4]),
        }
        for i in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def pretraining(content: bytes, *options: object) -> Make:
    """Pretrain on a file of this content."""

    def make(folder: Path) -> list[object]:
        (folder / "data.jsonl").write_bytes(content)
        out = ("--out", folder / NEW)
        return ["pretrain", "text/simclr", *out, "--data", folder / "data.jsonl", *options]

    return make


def pretrain_with(*options: object, recipe: str = "text/simclr") -> Make:
    return lambda folder: [
        *("pretrain", recipe, "--out", folder / NEW, "--data", pairs(folder), *options)
    ]


def sweeping(*options: object, recipe: str = "text/simclr") -> Make:
    return lambda folder: [
        *("sweep", recipe, "--out", folder / NEW, "--data", pairs(folder), *options)
    ]


def pretrain_tokenizer(content: bytes) -> Make:
    def make(folder: Path) -> list[object]:
        (folder / "tokenizer.json").write_bytes(content)
        return pretrain_with("--tokenizer", folder / "tokenizer.json")(folder)

    return make


def written_encoder(folder: Path) -> Path:
    """Save a sound encoder as attar does."""
    model = encoder_folder.TextModel(encoder=tiny_encoder(), tokenizer=tokenizer_json())
    encoder_folder.save(model, folder / "encoder")
    return folder / "encoder"


def exporting(spoil: Callable[[Path], object]) -> Make:
    """Export a sound encoder's folder after it was spoilt."""

    def make(folder: Path) -> list[object]:
        encoder = written_encoder(folder)
        spoil(encoder)
        return ["export", encoder, folder / f"{NEW}.attar", "--data", pairs(folder)]

    return make


def taken(folder: Path) -> list[object]:
    return ["export", written_encoder(folder), sound(folder), "--data", pairs(folder)]


def compatible_with(teacher: Callable[[Path], Path]) -> Make:
    """Export a sound encoder whose queries are to search what a teacher embedded."""

    def make(folder: Path) -> list[object]:
        return [*exporting(lambda _: None)(folder), "--compatible-with", teacher(folder)]

    return make


def pickled_weights(encoder: Path) -> None:
    (encoder / encoder_folder.WEIGHTS).write_bytes(pickle.dumps({"weight": [1.0]}))


def huge_shape(encoder: Path) -> None:
    about = json.loads((encoder / encoder_folder.ABOUT).read_text("utf-8"))
    about["shape"]["vocabulary"] = "1e99"
    (encoder / encoder_folder.ABOUT).write_text(json.dumps(about), "utf-8")


def distilling(teacher: Callable[[Path], Path], *options: object) -> Make:
    return lambda folder: [
        *("distill", teacher(folder), "--out", folder / NEW, "--data", pairs(folder), *options)
    ]


def any_teacher(folder: Path) -> Path:
    return bert_folder(folder / "teacher")


def adapting(base: Callable[[Path], Path], *options: object, count: int = 12) -> Make:
    return lambda folder: [
        *("adapt", base(folder), "--out", folder / NEW),
        *("--data", documents(folder, count), *options),
    ]


def with_general(content: bytes) -> Make:
    def make(folder: Path) -> list[object]:
        (folder / "general.txt").write_bytes(content)
        return distilling(any_teacher, "--general", folder / "general.txt")(folder)

    return make


def torn_teacher(folder: Path) -> Path:
    teacher = bert_folder(folder / "teacher")
    weights = teacher / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    return teacher


def code_teacher(folder: Path) -> Path:
    teacher = bert_folder(folder / "teacher")
    modules = json.loads((teacher / "modules.json").read_text("utf-8"))
    modules.append({"path": "", "type": "evil.Module"})
    (teacher / "modules.json").write_text(json.dumps(modules), "utf-8")
    return teacher


def demo_on_a_file(folder: Path) -> list[object]:
    (folder / "taken").write_text("mine", "utf-8")
    return ["demo", "--quick", "--out", folder / "taken"]


NOT_UTF8: Final = b"\xff\xfe\x00cats"
DEEP: Final = b"[" * 100_000

CASES: tuple[Case, ...] = (
    *of_bundles(),
    Case(
        "embed",
        "mistaken",
        "a role that is none",
        ("role must be one of passage, query", "'user'"),
        sound_with("embed", "--role", "user"),
    ),
    Case(
        "embed",
        "mistaken",
        "a variant that is none",
        ("tiny has no variant 'fp64'", "fp32"),
        sound_with("embed", "--variant", "fp64"),
    ),
    Case(
        "inspect",
        "mistaken",
        "--length without --ops",
        ("--ops",),
        sound_with("inspect", "--length", 4),
    ),
    Case(
        "inspect --ops",
        "mistaken",
        "a variant that is none",
        ("no variant 'fp64'; it has fp32",),
        sound_with("inspect --ops", "--variant", "fp64"),
    ),
    Case(
        "inspect --ops",
        "mistaken",
        "longer than the encoder takes",
        ("--length must be from 1 to 16; got 17",),
        sound_with("inspect --ops", "--length", 17),
    ),
    Case(
        "inspect --ops",
        "mistaken",
        "no length",
        ("--length must be from 1 to 16; got 0",),
        sound_with("inspect --ops", "--length", 0),
    ),
    Case(
        "inspect --ops",
        "mistaken",
        "a length of an image",
        ("one shape", "leave --length out"),
        of_arrays("inspect --ops", "--length", 4),
    ),
    Case(
        "inspect --ops",
        "mistaken",
        "a batch of nothing",
        ("axis batch must be 1 or more; got 0",),
        sound_with("inspect --ops", "--batch", 0),
    ),
    Case(
        "bench",
        "mistaken",
        "a budget in words",
        ("latency=5,file=30,memory=200", "'quick'"),
        sound_with("bench", "--budget", "quick"),
    ),
    Case(
        "bench",
        "mistaken",
        "a budget below 0",
        ("above 0", "'latency=-1'"),
        sound_with("bench", "--budget", "latency=-1"),
    ),
    Case(
        "bench",
        "mistaken",
        "a variant that is none",
        ("no variant 'fp64'; it has fp32",),
        sound_with("bench", "--variant", "fp64"),
    ),
    Case(
        "bench",
        "mistaken",
        "longer than the encoder takes",
        ("from 1 to 16; got [99]",),
        sound_with("bench", "--length", 99),
    ),
    Case(
        "bench",
        "mistaken",
        "a length of an image",
        ("one shape", "leave lengths out"),
        of_arrays("bench", "--length", 4),
    ),
    Case(
        "bench",
        "mistaken",
        "no threads",
        ("threads must be 1 or more; got [0]",),
        sound_with("bench", "--threads", 0),
    ),
    Case(
        "bench",
        "mistaken",
        "time that is none",
        ("seconds must be above 0; got nan",),
        sound_with("bench", "--seconds", "nan"),
    ),
    Case(
        "bench",
        "mistaken",
        "a folder that does not exist",
        ("--out must be a .json file in a folder that exists",),
        lambda folder: ["bench", sound(folder), "--out", folder / "none" / "x.json"],
    ),
    Case(
        "bench",
        "foreign",
        "a bundle for other CPUs",
        ("no variant of tiny could be timed", "flux9"),
        not_runnable,
    ),
    Case(
        "check",
        "mistaken",
        "a data folder that is not there",
        ("nothing is no folder", "give a server's data_dir"),
        lambda folder: ["check", folder / "nothing"],
    ),
    Case(
        "check",
        "foreign",
        "a folder of other things",
        ("has nothing that a server keeps", "give a server's data_dir"),
        lambda folder: ["check", sound(folder).parent],
    ),
    Case(
        "verify",
        "mistaken",
        "a teacher that is not there",
        ("teacher", "missing"),
        lambda folder: sound_with("verify", "--against", folder / "teacher")(folder),
    ),
    Case(
        "verify",
        "foreign",
        "a teacher's folder with nothing in it",
        ("teacher has neither modules.json", "give the folder"),
        empty_teacher,
    ),
    Case(
        "verify",
        "foreign",
        "a teacher of another width",
        ("gives 16 dimensions and tiny 8", "compare with the encoder"),
        other_teacher,
    ),
    Case(
        "verify",
        "hostile",
        "a teacher that wants its code run",
        ("evil.Module",),
        lambda folder: sound_with("verify", "--against", code_teacher(folder))(folder),
    ),
    Case(
        "verify",
        "damaged",
        "items that are no text",
        ("items.txt is not UTF-8", "save it as UTF-8"),
        written("verify", "--items", "items.txt", NOT_UTF8),
    ),
    Case(
        "verify",
        "mistaken",
        "one item",
        ("two items or more are compared; got 1",),
        written("verify", "--items", "items.txt", b"a cat\n"),
    ),
    Case(
        "verify",
        "hostile",
        "items that are a pickle",
        ("items.npy is no .npy array", "numpy.save"),
        pickled_items,
    ),
    Case(
        "verify",
        "foreign",
        "items of another shape",
        ("item 0 has shape (2, 2); image must be float32 (1, 8, 8)",),
        wrong_items,
    ),
    Case(
        "verify",
        "mistaken",
        "a server without http",
        ("a server's URL is such as http://127.0.0.1:8080", "'127.0.0.1:8001'"),
        sound_with("verify", "--server", "127.0.0.1:8001"),
    ),
    Case(
        "verify",
        "mistaken",
        "a server that is not there",
        ("http://127.0.0.1:1 does not answer", "is it the server?"),
        sound_with("verify", "--server", "http://127.0.0.1:1"),
    ),
    Case(
        "verify",
        "mistaken",
        "items for a server",
        ("--server has texts of its own", "leave out --items"),
        sound_with("verify", "--server", "http://127.0.0.1:1", "--items", "items.txt"),
    ),
    Case(
        "verify",
        "mistaken",
        "a cosine of no angle",
        ("min_cosine must be above 0 and at most 1; got 2",),
        sound_with("verify", "--server", "http://127.0.0.1:1", "--min-cosine", "2"),
    ),
    Case(
        "report",
        "foreign",
        "another bundle's bench",
        ("bench report is of 'sha256:", "run `attar bench` on this bundle"),
        bench_of_another,
    ),
    Case(
        "report",
        "damaged",
        "a bench that was cut",
        ("bench.json is not strict JSON", "attar bench --out"),
        written("report", "--bench", "bench.json", b'{"rows": ['),
    ),
    Case(
        "report",
        "hostile",
        "a bench nested too deep",
        ("bench.json is not strict JSON", "attar bench --out"),
        written("report", "--bench", "bench.json", DEEP),
    ),
    Case(
        "report",
        "foreign",
        "a bench that is a list",
        ("is no report", "attar bench --out"),
        written("report", "--bench", "bench.json", b"[]"),
    ),
    Case(
        "report",
        "mistaken",
        "a folder to write to",
        ("--out", "must be a file in a folder that exists"),
        lambda folder: ["report", sound(folder), "--out", folder],
    ),
    Case(
        "recipes",
        "mistaken",
        "an argument",
        ("unexpected extra argument",),
        lambda _: ["recipes", "all"],
    ),
    Case(
        "pretrain",
        "mistaken",
        "a recipe that is none",
        ("no recipe 'text/byol'; there are ", "text/simclr, text/simcse, text/static"),
        pretrain_with(recipe="text/byol"),
    ),
    Case(
        "pretrain",
        "mistaken",
        "data that is not there",
        ("cannot read pairs from", "none.jsonl"),
        lambda folder: [
            "pretrain",
            "text/simclr",
            "--out",
            folder / NEW,
            "--data",
            folder / "none.jsonl",
        ],
    ),
    Case(
        "pretrain",
        "mistaken",
        "no steps",
        ("--steps", "greater than or equal to 1"),
        pretrain_with("--steps", 0),
    ),
    Case(
        "pretrain",
        "damaged",
        "a line that was cut",
        ("data.jsonl, line 1", "name, summary and body"),
        pretraining(b'{"name": "a"'),
    ),
    Case(
        "pretrain",
        "foreign",
        "data that is no text",
        ("cannot read pairs from", "data.jsonl"),
        pretraining(NOT_UTF8),
    ),
    Case(
        "pretrain",
        "foreign",
        "fields of another kind",
        ("data.jsonl, line 1", "an object of strings"),
        pretraining(b'{"name": 1, "summary": [], "body": {}}\n'),
    ),
    Case(
        "pretrain",
        "hostile",
        "a line nested too deep",
        ("data.jsonl, line 1", "name, summary and body"),
        pretraining(DEEP),
    ),
    Case(
        "pretrain",
        "damaged",
        "a tokenizer that was cut",
        ("tokenizer",),
        pretrain_tokenizer(b'{"model"'),
    ),
    Case(
        "pretrain",
        "foreign",
        "a tokenizer that is no text",
        ("tokenizer",),
        pretrain_tokenizer(NOT_UTF8),
    ),
    Case(
        "sweep",
        "mistaken",
        "a value that is no number",
        ("rate takes a number; got 'fast'",),
        sweeping("--vary", "rate=1e-3,fast"),
    ),
    Case(
        "sweep",
        "mistaken",
        "a setting that there is not",
        ("there is no setting 'rat'; did you mean rate?",),
        sweeping("--vary", "rat=1,2"),
    ),
    Case(
        "sweep",
        "mistaken",
        "one value",
        ("a sweep has 2 to 1,000 runs; --vary gives 1",),
        sweeping("--vary", "rate=1e-3"),
    ),
    Case(
        "sweep",
        "mistaken",
        "the same value twice",
        ("--vary has rate=1 twice",),
        sweeping("--vary", "rate=1,1"),
    ),
    Case(
        "sweep",
        "mistaken",
        "a recipe of several runs",
        ("image/simclr_v2 is several runs",),
        sweeping("--vary", "rate=1,2", recipe="image/simclr_v2"),
    ),
    Case(
        "sweep",
        "hostile",
        "more runs than there are atoms",
        ("a sweep has 2 to 1,000 runs",),
        sweeping(*(("--vary", f"rate={','.join(['1'] * 1000)}") * 30)),
    ),
    Case(
        "sweep",
        "hostile",
        "a value of 300 digits",
        ("--vary names a folder of 305 bytes, and a folder's name has at most 255",),
        sweeping("--vary", f"rate=1e-3,0.{'0' * 297}1"),
    ),
    Case(
        "evaluate",
        "mistaken",
        "no such encoder",
        ("encoder.json is missing or damaged",),
        lambda folder: ["evaluate", folder / "nothing", "--data", "digits"],
    ),
    Case(
        "evaluate --suite",
        "mistaken",
        "an encoder of texts",
        ("holds an encoder of text; the suite is of images",),
        lambda folder: ["evaluate", written_encoder(folder), "--data", "digits", "--suite"],
    ),
    Case(
        "evaluate --suite",
        "mistaken",
        "a network that cannot be imported",
        ("torch:nowhere:net cannot be imported", "PYTHONPATH"),
        lambda _: ["evaluate", "torch:nowhere:net", "--data", "digits", "--suite"],
    ),
    Case(
        "evaluate",
        "mistaken",
        "groups without the suite",
        ("--groups and --out are of the suite; add --suite",),
        lambda folder: ["evaluate", written_encoder(folder), "--data", "digits", "--groups", NEW],
    ),
    Case(
        "upsert",
        "mistaken",
        "documents that are not there",
        ("there is no file or folder", "nothing"),
        lambda folder: ["upsert", "127.0.0.1:1", "docs", folder / "nothing"],
    ),
    Case(
        "upsert",
        "mistaken",
        "passages of no words",
        ("words must be at least 1", "got 0 and 0"),
        lambda folder: ["upsert", "127.0.0.1:1", "docs", folder, "--words", 0],
    ),
    Case(
        "upsert",
        "foreign",
        "an address where no server answers",
        ("no server answers at 127.0.0.1:1", "attar serve"),
        lambda folder: ["upsert", "127.0.0.1:1", "docs", documents(folder)],
    ),
    Case(
        "search",
        "mistaken",
        "a server without a port",
        ("a server's target is host:port", "got 'localhost'"),
        lambda _: ["search", "localhost", "docs", "a cat"],
    ),
    Case(
        "search",
        "mistaken",
        "a filter that is no object",
        ("--filter is [1]; give a JSON object",),
        lambda _: ["search", "127.0.0.1:1", "docs", "a cat", "--filter", "[1]"],
    ),
    Case(
        "search",
        "damaged",
        "a filter that was cut",
        ("""--filter is {"about; give a JSON object""",),
        lambda _: ["search", "127.0.0.1:1", "docs", "a cat", "--filter", '{"about'],
    ),
    Case(
        "search",
        "mistaken",
        "authorities that are not there",
        ("cannot read", "nothing.pem"),
        lambda folder: ["search", "127.0.0.1:1", "docs", "cat", "--ca", folder / "nothing.pem"],
    ),
    Case("adapt", "mistaken", "no such base", ("nothing.attar", "missing"), adapting(nothing)),
    Case(
        "adapt", "damaged", "weights that were cut", ("model.safetensors",), adapting(torn_teacher)
    ),
    Case(
        "adapt",
        "hostile",
        "a base that wants its code run",
        ("evil.Module",),
        adapting(code_teacher),
    ),
    Case(
        "adapt",
        "mistaken",
        "a rule that there is not",
        ("there is no rule 'titles'", "title_and_body"),
        adapting(written_encoder, "--rule", "titles"),
    ),
    Case(
        "adapt",
        "mistaken",
        "widths that are no numbers",
        ("--widths takes widths such as 64,128; got 'all'",),
        adapting(written_encoder, "--widths", "all"),
    ),
    Case(
        "adapt",
        "mistaken",
        "a width beyond the embedding's",
        ("widths must be in [1, 16]", "(17,)"),
        adapting(written_encoder, "--widths", "17"),
    ),
    Case(
        "adapt",
        "mistaken",
        "a length beyond the base's",
        ("length must be in [1, 16]", "got 17"),
        adapting(written_encoder, "--length", "17"),
    ),
    Case(
        "adapt",
        "hostile",
        "a width of forty digits",
        ("widths must be in [1, 16]",),
        adapting(written_encoder, "--widths", "9" * 40),
    ),
    Case(
        "adapt",
        "hostile",
        "a length below nothing",
        ("--length", "greater than or equal to 1"),
        adapting(written_encoder, "--length", "-1"),
    ),
    Case(
        "adapt",
        "hostile",
        "twenty thousand widths",
        ("widths",),
        adapting(written_encoder, "--widths", ",".join(["17"] * 20_000)),
    ),
    Case(
        "adapt",
        "mistaken",
        "two documents",
        ("has 2 documents", "4 are the least"),
        adapting(written_encoder, count=2),
    ),
    Case(
        "adapt",
        "mistaken",
        "general texts that are not there",
        ("nothing.attar cannot be read",),
        lambda folder: adapting(written_encoder, "--general", nothing(folder))(folder),
    ),
    Case(
        "distill", "mistaken", "no such teacher", ("nothing.attar", "missing"), distilling(nothing)
    ),
    Case(
        "distill",
        "damaged",
        "weights that were cut",
        ("model.safetensors",),
        distilling(torn_teacher),
    ),
    Case(
        "distill",
        "hostile",
        "a teacher that wants its code run",
        ("evil.Module",),
        distilling(code_teacher),
    ),
    Case(
        "distill",
        "mistaken",
        "a start that is not there",
        ("nothing.attar", "missing"),
        lambda folder: distilling(any_teacher, "--init", nothing(folder))(folder),
    ),
    Case(
        "distill",
        "mistaken",
        "a width for a student of layers",
        ("only a static student has a width of its own; leave --dim out",),
        distilling(any_teacher, "--dim", 8),
    ),
    Case(
        "distill",
        "mistaken",
        "a static student that starts elsewhere",
        ("a static student starts from its teacher's tokens; leave --init out",),
        distilling(any_teacher, "--student", "static", "--init", "start"),
    ),
    Case(
        "distill",
        "mistaken",
        "a static student wider than its teacher",
        ("at most as wide as its teacher, 16; got 17",),
        distilling(any_teacher, "--student", "static", "--dim", 17),
    ),
    Case(
        "distill",
        "mistaken",
        "more layers than the teacher has",
        ("layers must be from 1 to 1", "got 2"),
        distilling(any_teacher, "--layers", 2),
    ),
    Case(
        "distill",
        "mistaken",
        "a layer that the teacher lacks",
        ("layers must be numbers from 0 to 0", "got 0,5"),
        distilling(any_teacher, "--layers", "0,5"),
    ),
    Case(
        "distill",
        "mistaken",
        "layers that are no numbers",
        ("--layers are numbers from 0, with commas between; got 'first'",),
        distilling(any_teacher, "--layers", "first"),
    ),
    Case(
        "distill",
        "mistaken",
        "layers and a start, which has its own",
        ("--layers are copied from the teacher", "leave one of the two out"),
        lambda folder: distilling(any_teacher, "--layers", 1, "--init", written_encoder(folder))(
            folder
        ),
    ),
    Case(
        "distill",
        "mistaken",
        "a ladder, with an option of one student",
        ("--ladder makes students of every size; leave --min-cosine out",),
        distilling(any_teacher, "--ladder", "--min-cosine", 0.2),
    ),
    Case(
        "distill",
        "mistaken",
        "longer texts than the teacher reads",
        ("length must be from 3 to 12", "got 13"),
        distilling(any_teacher, "--length", 13),
    ),
    Case(
        "distill",
        "mistaken",
        "texts of no length",
        ("length must be from 3 to 12", "got 0"),
        distilling(any_teacher, "--length", 0),
    ),
    Case(
        "distill",
        "hostile",
        "a length of forty digits",
        ("length must be from 3 to 12",),
        distilling(any_teacher, "--length", "9" * 40),
    ),
    Case(
        "distill",
        "mistaken",
        "a width beyond the teacher's",
        ("widths must be from 1 to 16", "got 8,17"),
        distilling(any_teacher, "--widths", "8,17"),
    ),
    Case(
        "distill",
        "mistaken",
        "a width that is no number",
        ("--widths takes widths such as 64,128; got 'wide'",),
        distilling(any_teacher, "--widths", "wide"),
    ),
    Case(
        "distill",
        "mistaken",
        "general texts that are not there",
        ("general.txt cannot be read",),
        lambda folder: distilling(any_teacher, "--general", folder / "general.txt")(folder),
    ),
    Case(
        "distill",
        "mistaken",
        "too few general texts",
        ("general.txt: 1 general texts, and three are the least",),
        with_general(b"one\n\n"),
    ),
    Case(
        "distill",
        "foreign",
        "general texts that are no text",
        ("general.txt is not UTF-8",),
        with_general(NOT_UTF8),
    ),
    Case(
        "distill",
        "mistaken",
        "a cosine that is none",
        ("--min-cosine", "less than or equal to 1"),
        distilling(any_teacher, "--min-cosine", 2),
    ),
    Case(
        "distill",
        "mistaken",
        "a static student of layers",
        ("starts from its teacher's tokens; leave --layers out",),
        distilling(any_teacher, "--student", "static", "--layers", 1),
    ),
    Case(
        "export",
        "mistaken",
        "no such encoder",
        ("encoder.json is missing",),
        lambda folder: ["export", nothing(folder), folder / NEW, "--data", pairs(folder)],
    ),
    Case(
        "export",
        "mistaken",
        "a path that is taken",
        ("tiny.attar exists; choose another path",),
        taken,
    ),
    Case(
        "export",
        "damaged",
        "weights that were cut",
        ("encoder.safetensors is missing or damaged",),
        exporting(lambda e: (e / encoder_folder.WEIGHTS).write_bytes(b"\x08")),
    ),
    Case(
        "export",
        "hostile",
        "weights that are a pickle",
        ("encoder.safetensors is missing or damaged",),
        exporting(pickled_weights),
    ),
    Case(
        "export",
        "hostile",
        "a shape of words",
        ("encoder.json is missing or damaged",),
        exporting(huge_shape),
    ),
    Case(
        "export",
        "hostile",
        "a description nested too deep",
        ("encoder.json is missing or damaged",),
        exporting(lambda e: (e / encoder_folder.ABOUT).write_bytes(DEEP)),
    ),
    Case(
        "export",
        "foreign",
        "a bundle",
        ("tiny.attar",),
        lambda folder: [*("export", sound(folder), folder / NEW, "--data", pairs(folder))],
    ),
    Case(
        "export",
        "mistaken",
        "a folder of two models",
        ("holds two models, attar's (encoder.json)", "(config.json); give each a folder"),
        exporting(lambda e: (e / "config.json").write_text('{"model_type": "bert"}')),
    ),
    Case(
        "export",
        "mistaken",
        "an option that another command has now",
        ("--target", "`attar export-triton` or `attar export-tensorrt`"),
        lambda folder: ["export", sound(folder), folder / NEW, "--target", "triton"],
    ),
    Case(
        "export",
        "mistaken",
        "a teacher that is not there",
        ("no bundle at", "nothing.attar"),
        compatible_with(nothing),
    ),
    Case(
        "export",
        "damaged",
        "a teacher that was cut",
        ("fp32.onnx has", "wrong-size"),
        compatible_with(cut_graph),
    ),
    Case(
        "export",
        "mistaken",
        "a teacher of another width",
        ("wide.attar has the widths [32] and", "[16]", "must be the same"),
        compatible_with(lambda folder: tiny_bundle(folder / "wide.attar", dim=32)),
    ),
    Case(
        "export",
        "mistaken",
        "a teacher of images",
        ("pixels.attar takes image and", "texts; give a teacher"),
        compatible_with(lambda folder: tiny_tensor_bundle(folder / "pixels.attar")),
    ),
    Case(
        "export",
        "mistaken",
        "a teacher of another space",
        ("may not search what", "mean cosine", "is below 0.7", "nothing is written"),
        compatible_with(sound),
    ),
    Case(
        "binarize",
        "mistaken",
        "a layer that is none",
        ("there is no layer 9; the encoder has 0 to",),
        lambda folder: [
            *("binarize", written_encoder(folder), folder / f"{NEW}.attar"),
            *("--data", pairs(folder), "--layers", "9"),
        ],
    ),
    Case(
        "export-tensorrt",
        "mistaken",
        "lengths that are no numbers",
        ("--lengths must be whole numbers with commas", "'8;16'"),
        sound_with("export-tensorrt", "--lengths", "8;16"),
    ),
    Case(
        "serve",
        "mistaken",
        "a setting that is none",
        ("--colour",),
        sound_with("serve", "--colour", "red"),
    ),
    Case(
        "sign",
        "mistaken",
        "no key there",
        ("no keys at", "none.pem"),
        lambda folder: ["sign", sound(folder), "--key", folder / "none.pem"],
    ),
    Case(
        "sign",
        "foreign",
        "a key that is no PEM",
        ("key.txt holds no private key that can be read",),
        written("sign", "--key", "key.txt", b"ssh-ed25519 AAAA me"),
    ),
    Case(
        "sign",
        "mistaken",
        "a public key",
        ("public.pem holds no private key that can be read",),
        lambda folder: ["sign", sound(folder), "--key", public_key(folder)],
    ),
    Case(
        "inspect",
        "hostile",
        "a bundle that nobody signed",
        ("must be signed by a key of", "public.pem", "unsigned"),
        lambda folder: sound_with("inspect", "--require-signature", public_key(folder))(folder),
    ),
    Case(
        "inspect",
        "mistaken",
        "a private key for the known ones",
        ("key.pem holds '-----BEGIN PRIVATE KEY-----', which is no public key of Ed25519",),
        lambda folder: sound_with("inspect", "--require-signature", private_key(folder))(folder),
    ),
    Case(
        "inspect --ops",
        "mistaken",
        "a signature, and operations",
        ("--require-signature goes without --ops",),
        lambda folder: sound_with("inspect --ops", "--require-signature", public_key(folder))(
            folder
        ),
    ),
    Case(
        "serve",
        "hostile",
        "a bundle that nobody signed",
        ("must be signed by a key of", "public.pem", "unsigned"),
        lambda folder: sound_with("serve", "--require-signature", public_key(folder))(folder),
    ),
    Case(
        "serve",
        "mistaken",
        "no known keys there",
        ("no keys at", "none.pem"),
        lambda folder: sound_with("serve", "--require-signature", folder / "none.pem")(folder),
    ),
    Case("demo", "mistaken", "a file where its folder would be", ("taken",), demo_on_a_file),
)


def attempt(case: Case, folder: Path) -> Outcome:
    """Run the command in this process, as a person would in another."""
    folder.mkdir(exist_ok=True)
    command = ["attar", *map(str, case.make(folder))]
    before = files(folder)
    out, err = StringIO(), StringIO()
    arguments, status = sys.argv, 0
    sys.argv = command
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 2
    finally:
        sys.argv = arguments
    return Outcome(status, shown(err.getvalue(), folder), tuple(sorted(files(folder) - before)))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def shown(message: str, folder: Path) -> str:
    """Leave out the frame that typer draws, and where the test's folder lies."""
    text = " ".join("".join(c if c not in "╭╮╰╯│─" else " " for c in message).split())
    return text.replace(str(folder), "FOLDER")
