"""The wire: generated modules match their .proto files."""

import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).parents[2] / "protos"


def test_the_generated_modules_are_those_that_the_proto_files_give(tmp_path: Path) -> None:
    command = [sys.executable, str(PROTOS / "generate.py"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)

    made = {path.name: path.read_text("utf-8") for path in (tmp_path / "attar/v1").iterdir()}
    kept = {path.name: path.read_text("utf-8") for path in (PROTOS / "attar/v1").glob("*_pb2*.py*")}

    assert made.keys() == kept.keys()
    stale = [name for name, text in made.items() if kept[name] != text]
    assert not stale, "run `make protos`"


def test_every_proto_file_says_its_one_idea_first() -> None:
    for path in (PROTOS / "attar/v1").glob("*.proto"):
        assert path.read_text("utf-8").startswith("// "), path.name
