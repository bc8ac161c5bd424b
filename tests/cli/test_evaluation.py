"""`attar evaluate`: the figures of an encoder, and with --suite the tables on its images."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ..support.commands import Attar

TINY = "torch:benchmarks.support.networks:tiny"


def test_the_suite_prints_its_tables_and_writes_every_figure(attar_: Attar, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "photographs" / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 120, (8, 8, 3)) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    groups, out = tmp_path / "groups.txt", tmp_path / "suite.json"
    command = ["evaluate", TINY, "--data", tmp_path / "photographs", "--read", "side=8", "--suite"]

    ran = attar_(*command, "--out", out)
    assert ran.status == 0, ran.err
    facts = json.loads(out.read_text("utf-8"))
    assert {row["name"] for row in facts["slices"]["class"]} == {"dark", "light"}
    for words in ("by class, the worst first", "contrast", "strong", "accuracy on corrupted"):
        assert words in " ".join(ran.out.split())

    again = attar_(*command, "--out", out)
    assert again.status == 2
    assert f"--out {out} exists" in again.err

    groups.write_text("\n".join(["night", "day"] * (facts["images"] // 2)), "utf-8")
    grouped = attar_(*command, "--groups", groups)
    assert grouped.status == 0, grouped.err
    assert "by group, the worst first" in " ".join(grouped.out.split())
    groups.write_text("night\n", "utf-8")
    short = attar_(*command, "--groups", groups)
    assert short.status == 2
    assert "names 1 groups, and the data has" in short.err
