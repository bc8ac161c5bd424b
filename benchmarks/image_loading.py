"""Reading images while a network trains on them: images a second and memory, by worker processes.

    python -m benchmarks.image_loading CIFAR_TRAIN_NPZ --out benchmarks/results/image_loading.json

About 5 minutes on two free cores. The images of an .npz of JPEGs (`jpeg` and `offset`) are scaled
up to the size of photographs and saved as JPEG, in a folder and in two tars. `read` is the loop
without a network, `train` a small one of image/simclr. Each row is a process of its own. Memory is
the most of what the process and its workers had together, shared pages counted once (PSS).
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from PIL import Image

from attar.host import describe

COUNT, SIDE, TRAINED_SIDE, BATCH = 1500, 256, 64, 64
STEPS: Final = {"read": 20, "train": 12}
WORKERS: Final = (0, 1, 2)
LOOK_EVERY_S: Final = 0.2


def photographs(source: Path, folder: Path) -> None:
    """Write the images of an .npz as JPEGs of SIDE pixels, in a folder and in tars."""
    packed = np.load(source)
    jpeg, offset = packed["jpeg"], packed["offset"]
    plain, tars = folder / "folder", folder / "tars"
    plain.mkdir()
    tars.mkdir()
    archives = [tarfile.open(tars / f"train-{i:06d}.tar", "w") for i in range(2)]  # noqa: SIM115
    for i in range(COUNT):
        small = Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes()))
        large = small.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        path = plain / f"{i:05d}.jpg"
        large.save(path, quality=90)
        archives[i * 2 // COUNT].add(path, path.name)
    for archive in archives:
        archive.close()


def memory_mb(process: psutil.Process) -> float:
    """Give what a process and its workers have together."""
    total = 0
    for one in (process, *process.children()):
        try:
            total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def row(data: str, what: str, workers: int) -> dict[str, Any]:
    """Measure in this process."""
    import torch

    from attar.training.loop import fit
    from attar.training.overrides import override
    from attar.training.reading import read
    from attar.training.recipes.image.simclr import recipe
    from attar.training.workers import batches_ahead

    torch.set_num_threads(1)
    source = read(data, side=TRAINED_SIDE, labels="none")
    steps = STEPS[what]
    settings = override(recipe.settings, [f"batch_size={BATCH}", "encoder=tiny"])
    training = recipe.build(source, settings)
    peak, ended = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(LOOK_EVERY_S):
            peak = max(peak, memory_mb(psutil.Process()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    if what == "read":
        for _ in batches_ahead(training.batches, range(steps), workers):
            pass
    else:
        from dataclasses import replace

        short = replace(training, steps=steps, probe=None)
        fit(short, accelerator="cpu", progress=False, workers=workers)
    seconds = time.perf_counter() - began
    ended.set()
    watcher.join()
    return {"images_per_second": steps * BATCH / seconds, "peak_mb": peak}


def main() -> None:
    """Measure each row and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        data, what, workers = arguments.child
        print(json.dumps(row(data, what, int(workers))))
        return
    rows = []
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        photographs(arguments.source, Path(scratch))
        for what in STEPS:
            for kind in ("folder", "tars"):
                for workers in WORKERS:
                    child = [str(Path(scratch) / kind), what, str(workers)]
                    command = [sys.executable, "-m", "benchmarks.image_loading", "-", "--child"]
                    ran = subprocess.run(
                        [*command, *child], capture_output=True, text=True, check=True
                    )
                    figures = json.loads(ran.stdout.splitlines()[-1])
                    rows.append({"what": what, "from": kind, "workers": workers, **figures})
                    print(rows[-1], flush=True)
    report = {
        "command": "python -m benchmarks.image_loading CIFAR_TRAIN_NPZ --out "
        "benchmarks/results/image_loading.json",
        "machine": describe(),
        "load_average": [load_before, os.getloadavg()[0]],
        "images": COUNT,
        "side": SIDE,
        "rows": rows,
    }
    text = json.dumps(report, indent=2) + "\n"
    if arguments.out is None:
        print(text)
    else:
        arguments.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
