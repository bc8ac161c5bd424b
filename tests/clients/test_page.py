"""Each block of docs/clients.md runs, and its `vectors` are those of a device."""

import re
from pathlib import Path
from typing import Any

import pytest

from .calls import Client, expected

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text("utf-8")
TEXTS, *BLOCKS = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split()[1] for block in BLOCKS])
def test_a_block_gives_the_vectors_of_a_device(block: str) -> None:
    served = f"{TEXTS}{block}".replace("student", "tiny").replace("dim=384", "dim=16")
    code = compile(served, "docs/clients.md", "exec")
    names: dict[str, Any] = {"url": Client.alone, "__name__": "page"}
    exec(code, names)  # noqa: S102 (the page itself)

    own = expected(names["texts"])
    assert abs(own - names["vectors"]).max() < 1e-5
