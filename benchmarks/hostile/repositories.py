"""Model repositories as operators leave them: mistyped, empty, cut in place, gone.

The one list; test_repositories.py serves each and holds the log and the index to it.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attar.bundle import Bundle

from ..support.repositories import write

Change = Callable[[Path], object]
Line = tuple[str, str, str]
"""Of the index: name, version and state."""

TINY = ("tiny", "1", "READY")


@dataclass(frozen=True, slots=True)
class Refused:
    """What a repository is named instead of a folder of bundles, and the text of the refusal."""

    name: str
    make: Callable[[Path], Path]
    refusal: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Case:
    """What happens to a served repository of tiny.attar, and what log and index must say."""

    name: str
    change: Change
    index: tuple[Line, ...]
    reason: str = ""  # of the first line
    log: tuple[str, ...] = ()
    start: Change = lambda folder: write(folder / "tiny.attar")

    def __str__(self) -> str:
        return self.name


def touched(path: Path, *changed: bytes) -> Path:
    """Write a file, and let its time tell of it where a clock is coarse."""
    before = path.stat().st_mtime_ns
    for content in changed:
        path.write_bytes(content)
    os.utime(path, ns=(before + 10**9, before + 10**9))
    return path


def graph(folder: Path) -> Path:
    return folder / "tiny.attar" / "variants" / "fp32.onnx"


def cut(folder: Path) -> None:
    touched(graph(folder), graph(folder).read_bytes()[:-50])


def flipped(folder: Path) -> None:
    data = bytearray(graph(folder).read_bytes())
    data[len(data) // 2] ^= 1
    touched(graph(folder), bytes(data))


def put_back(folder: Path) -> None:
    data = graph(folder).read_bytes()
    touched(graph(folder), data[:-50], data)


def added_pickle(folder: Path) -> None:
    (folder / "tiny.attar" / "extra.pkl").write_bytes(b"x")


def cut_manifest(folder: Path) -> None:
    path = folder / "tiny.attar" / "manifest.json"
    touched(path, path.read_bytes()[:100])


def zipped(folder: Path) -> None:
    Bundle.pack(write(folder / ".tiny"), folder / "tiny.zip")


def cut_zip(folder: Path) -> None:
    path = folder / "tiny.zip"
    touched(path, path.read_bytes()[: path.stat().st_size // 2])


def a_file(folder: Path) -> Path:
    path = folder / "models"
    path.write_text("tiny.attar", "utf-8")
    return path


def a_zip(folder: Path) -> Path:
    return Bundle.pack(write(folder / "tiny.attar"), folder / "tiny.zip").path


REFUSED: tuple[Refused, ...] = (
    Refused("nothing", lambda folder: folder / "modles", ("modles is not there", "name a folder")),
    Refused("a file", a_file, ("models is a file", "give a bundle as BUNDLE")),
    Refused("a zip", a_zip, ("tiny.zip is a file", "give a bundle as BUNDLE")),
    Refused(
        "a bundle",
        lambda folder: write(folder / "tiny.attar"),
        ("tiny.attar is a bundle; give it as BUNDLE", "the folder that holds it"),
    ),
)

CASES: tuple[Case, ...] = (
    Case("a graph is cut", cut, (TINY,), "fp32.onnx has", ("not served", "what served before")),
    Case("a bit flips", flipped, (TINY,), "fp32.onnx is damaged", ("not served", "wrong-hash")),
    Case(
        "a file goes",
        lambda folder: graph(folder).unlink(),
        (TINY,),
        "lacks variants/fp32.onnx",
        ("not served", "missing-file", "what served before goes on"),
    ),
    Case("a pickle is added", added_pickle, (TINY,), "extra.pkl", ("not served", "unlisted-file")),
    Case(
        "the manifest is cut",
        cut_manifest,
        (TINY, ("tiny", "", "UNAVAILABLE")),
        "",
        ("not served", "bad-json", "what served before goes on"),
    ),
    Case(
        "a zip is cut",
        cut_zip,
        (TINY, ("tiny", "", "UNAVAILABLE")),
        "",
        ("not served", "tiny.zip", "what served before goes on"),
        start=zipped,
    ),
    Case("a file is touched", lambda folder: touched(graph(folder)), (TINY,)),
    Case("a file is cut and put back", put_back, (TINY,)),
    Case(
        "a bundle goes",
        lambda folder: shutil.rmtree(folder / "tiny.attar"),
        (),
        "",
        ("retired: tiny, version 1, variant fp32", "tiny.attar is gone"),
    ),
    Case(
        "the folder goes",
        lambda folder: folder.rename(folder.with_name("elsewhere")),
        (TINY,),
        "",
        ("model_repository", "No such file", "what serves goes on"),
    ),
    Case(
        "a file takes the folder's place",
        lambda folder: (folder.rename(folder.with_name("elsewhere")), folder.write_text("x")),
        (TINY,),
        "",
        ("Not a directory", "what serves goes on"),
    ),
    Case(
        "another version comes",
        lambda folder: write(folder / "tiny.attar", version="2"),
        (("tiny", "2", "READY"),),
        "",
        ("serving tiny, version 2", "in the place of tiny, version 1"),
    ),
    Case(
        "a model of another name takes the place",
        lambda folder: write(folder / "tiny.attar", name="other"),
        (("other", "1", "READY"),),
        "",
        ("serving other, version 1", "in the place of tiny, version 1"),
    ),
    Case(
        "another model comes",
        lambda folder: write(folder / "other.attar", name="other"),
        (("other", "1", "READY"), TINY),
        "",
        ("serving other, version 1", "other.attar"),
    ),
    Case(
        "a bundle comes to an empty repository",
        lambda folder: write(folder / "tiny.attar"),
        (TINY,),
        "",
        ("holds no bundle; NAME.attar, NAME.zip and NAME/VERSION are", "serving tiny, version 1"),
        start=lambda folder: folder,
    ),
    Case(
        "other files are no bundles",
        lambda folder: (folder / "more.txt").write_text("x", "utf-8"),
        (),
        "",
        ("holds no bundle",),
        start=lambda folder: (folder / "notes.txt").write_text("x", "utf-8"),
    ),
    Case("nothing happens", lambda folder: folder, (TINY,)),
)
