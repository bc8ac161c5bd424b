"""Encoders and clients in other processes: forked, pickled, or handed to multiprocessing.

The one list. Each row is a program, which test_processes.py runs in a process of its own: it gets a
text bundle, one of images whose product is large enough to be shared among threads, and a folder.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START: Final = """
import copy, multiprocessing, os, pickle, shutil, sys, threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import numpy as np
import attar

bundle, images, folder = sys.argv[1:]
TEXTS = ["the cat sat on the mat", "a dog"]


def forked(work):
    child = os.fork()
    if child == 0:
        work()
        sys.exit(0)  # and not os._exit: what it holds is ended, as in any program
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, status


def equal(one, other):
    assert np.array_equal(one.vectors, other.vectors)


def refused(work):
    try:
        work()
    except attar.AttarError as error:
        print(type(error).__name__, error)
    else:
        raise AssertionError("it was not refused")
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One program, by what it does, and text that it must print."""

    name: str
    code: str
    output: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def ends(threads: int) -> Case:
    return Case(
        f"the child of a fork ends, {threads} threads",
        f"encoder = attar.load(bundle, threads={threads}); encoder.embed(TEXTS)\n"
        "forked(lambda: None)",
    )


def embeds(threads: int) -> Case:
    return Case(
        f"the child of a fork embeds as its parent does, {threads} threads",
        f"encoder = attar.load(images, threads={threads})\n"
        "items = np.random.default_rng(0).random((32, 1, 64, 64), np.float32)\n"
        "before = encoder.embed(items)\n"
        "forked(lambda: equal(encoder.embed(items), before))\n"
        "equal(encoder.embed(items), before)",
    )


def pool(start: str) -> Case:
    return Case(
        f"multiprocessing by {start} takes an encoder's method",
        "encoder = attar.load(bundle, threads=1)\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context('{start}').Pool(1) as pool:\n"
        "        (there,) = pool.map(encoder.embed, [TEXTS])\n"
        "    equal(there, encoder.embed(TEXTS))",
    )


CASES: tuple[Case, ...] = (
    *map(ends, (1, 2, 4)),
    *map(embeds, (1, 4)),
    *map(pool, ("fork", "spawn", "forkserver")),
    Case(
        "the child of a child embeds",
        "encoder = attar.load(bundle, threads=2); before = encoder.embed(TEXTS)\n"
        "embed = lambda: equal(encoder.embed(TEXTS), before)\n"
        "forked(lambda: (embed(), forked(embed)))",
    ),
    Case(
        "a fork while another thread embeds",
        "encoder = attar.load(images, threads=2)\n"
        "items = np.random.default_rng(0).random((32, 1, 64, 64), np.float32)\n"
        "before, going = encoder.embed(items), threading.Event()\n"
        "def work():\n"
        "    while not going.is_set():\n"
        "        encoder.embed(items)\n"
        "thread = threading.Thread(target=work); thread.start()\n"
        "forked(lambda: equal(encoder.embed(items), before))\n"
        "going.set(); thread.join()",
    ),
    Case(
        "two threads of a child embed at once",
        "encoder = attar.load(bundle, threads=2); before = encoder.embed(TEXTS)\n"
        "def work():\n"
        "    embed = lambda: equal(encoder.embed(TEXTS), before)\n"
        "    threads = [threading.Thread(target=embed) for _ in range(4)]\n"
        "    [thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "forked(work)",
    ),
    Case(
        "a fork drops an encoder",
        "encoder = attar.load(bundle, threads=4); encoder.embed(TEXTS)\n"
        "def work():\n"
        "    global encoder\n"
        "    del encoder\n"
        "forked(work)",
    ),
    Case(
        "a forked child whose bundle has gone gets an error",
        "shutil.copytree(bundle, folder + '/mine')\n"
        "encoder = attar.load(folder + '/mine', threads=1)\n"
        "shutil.rmtree(folder + '/mine')\n"
        "forked(lambda: refused(lambda: encoder.embed(TEXTS)))\n"
        "assert len(encoder.embed(TEXTS)) == 2",
        ("BundleRefused", "mine", "fp32.onnx cannot be read", "missing-file"),
    ),
    Case(
        "a forked child whose zip has gone gets an error",
        "attar.Bundle.pack(bundle, folder + '/tiny.zip')\n"
        "encoder = attar.load(folder + '/tiny.zip', threads=1)\n"
        "os.unlink(folder + '/tiny.zip')\n"
        "forked(lambda: refused(lambda: encoder.embed(TEXTS)))",
        ("BundleRefused", "tiny.zip is gone", "missing-file"),
    ),
    Case(
        "a forked child whose bundle was changed in place gets an error",
        "shutil.copytree(bundle, folder + '/mine')\n"
        "encoder = attar.load(folder + '/mine', threads=1)\n"
        "graph = Path(folder, 'mine', 'variants', 'fp32.onnx')\n"
        "graph.write_bytes(graph.read_bytes()[:-9])\n"
        "forked(lambda: refused(lambda: encoder.embed(TEXTS)))",
        ("BundleRefused", "fp32.onnx has", "wrong-size"),
    ),
    Case(
        "an encoder is pickled with its choices",
        "encoder = attar.load(bundle, variant='fp32', threads=1, provider='cpu')\n"
        "again = pickle.loads(pickle.dumps(encoder))\n"
        "assert (again.variant, again.fingerprint) == (encoder.variant, encoder.fingerprint)\n"
        "equal(again.embed(TEXTS), encoder.embed(TEXTS))\n"
        "equal(copy.deepcopy(again.reopened()).embed(TEXTS), encoder.embed(TEXTS))",
    ),
    Case(
        "an encoder of a path from here is unpickled elsewhere",
        "here = Path(bundle).parent; os.chdir(here)\n"
        "data = pickle.dumps(attar.load(Path(bundle).name, threads=1))\n"
        "os.chdir(folder)\n"
        "assert len(pickle.loads(data).embed(TEXTS)) == 2",
    ),
    Case(
        "a process that works in another folder by now still has its bundle",
        "shutil.copytree(bundle, folder + '/mine')\n"
        "attar.Bundle.pack(bundle, folder + '/mine.zip')\n"
        "for name in ('mine', 'mine.zip'):\n"
        "    os.chdir(folder)\n"
        "    encoder = attar.load(name, threads=1); before = encoder.embed(TEXTS)\n"
        "    os.chdir('/')\n"
        "    forked(lambda: equal(encoder.embed(TEXTS), before))\n"
        "    equal(encoder.reopened().embed(TEXTS), before)\n"
        "    equal(pickle.loads(pickle.dumps(encoder)).embed(TEXTS), before)",
    ),
    Case(
        "an encoder of a zip is pickled",
        "attar.Bundle.pack(bundle, folder + '/tiny.zip')\n"
        "data = pickle.dumps(attar.load(folder + '/tiny.zip', threads=1))\n"
        "assert len(pickle.loads(data).embed(TEXTS)) == 2",
    ),
    Case(
        "another bundle in the place of the pickled one is refused",
        "place = folder + '/mine'\n"
        "shutil.copytree(bundle, place); data = pickle.dumps(attar.load(place, threads=1))\n"
        "shutil.rmtree(place); shutil.copytree(images, place)\n"
        "refused(lambda: pickle.loads(data))",
        ("SpaceMismatch", "was pickled from", "put the bundle back"),
    ),
    Case(
        "a pickled encoder whose bundle has gone is refused",
        "place = folder + '/mine'\n"
        "shutil.copytree(bundle, place); data = pickle.dumps(attar.load(place, threads=1))\n"
        "shutil.rmtree(place)\n"
        "refused(lambda: pickle.loads(data))",
        ("NotFound", "no bundle at", "mine"),
    ),
    Case(
        "what an encoder gives and a bundle are pickled",
        "encoder = attar.load(bundle, threads=1); rows = encoder.embed(TEXTS)\n"
        "again, opened = pickle.loads(pickle.dumps((rows, encoder.bundle)))\n"
        "equal(again, rows); assert opened.manifest == encoder.manifest",
    ),
    Case(
        "errors are pickled with their words",
        "try:\n"
        "    attar.load(folder + '/none')\n"
        "except attar.NotFound as error:\n"
        "    error.add_note('a note')\n"
        "    again = pickle.loads(pickle.dumps(error))\n"
        "    assert (str(again), again.__notes__) == (str(error), ['a note'])",
    ),
    Case(
        "a client is pickled as what it was made of",
        "client = attar.Client('127.0.0.1:1', key='secret')\n"
        "refused(lambda: pickle.loads(pickle.dumps(client)).info(deadline_s=0.05))",
        ("no server answers at 127.0.0.1:1",),
    ),
)


def run(
    case: Case, *, bundle: Path, images: Path, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a row's program from a file, which spawn and forkserver import again."""
    path = folder / "program.py"
    path.write_text(START + case.code, "utf-8")
    command = [sys.executable, "-P", "-W", "error", str(path), *map(str, (bundle, images, folder))]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
