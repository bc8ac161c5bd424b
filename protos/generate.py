# noqa: INP001 (a script next to the .proto files, not a module)
"""Generate the Python modules of attar.v1, with their types, from the .proto files next to them."""

import argparse
import importlib.util
import sys
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent


def folder_of(package: str) -> Path:
    """The folder that sys.path needs for this package's files to be found under its own name."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"{package} is not installed; pip install 'attar[dev]'")
    return Path(next(iter(spec.submodule_search_locations))).parents[package.count(".")]


def run(*arguments: str) -> None:
    """Run protoc; raises SystemExit where it fails, after its own words on stderr."""
    if failed := protoc.main(["protoc", *arguments]):
        sys.exit(failed)


def generate(out: Path) -> None:
    """Write attar/v1/*_pb2.{py,pyi}, and *_pb2_grpc.{py,pyi} where a service is, under `out`."""
    paths = (
        f"--proto_path={HERE}",
        f"--proto_path={folder_of('grpc_tools') / 'grpc_tools' / '_proto'}",
        f"--proto_path={folder_of('google.rpc')}",
    )
    files = {f"attar/v1/{path.name}": path for path in sorted((HERE / "attar/v1").glob("*.proto"))}
    services = [name for name, path in files.items() if "\nservice " in path.read_text("utf-8")]
    # By path, since an environment's programs need not be on PATH for its Python to run.
    mypy, mypy_grpc = (
        f"--plugin=protoc-gen-{name}={Path(sys.executable).with_name(f'protoc-gen-{name}')}"
        for name in ("mypy", "mypy_grpc")
    )
    run(*paths, mypy, f"--python_out={out}", f"--mypy_out=quiet:{out}", *files)
    run(*paths, mypy_grpc, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="default: next to the .proto files")
    generate(parser.parse_args().out)
