"""The weights of a folder: safetensors, in one file or in the shards that an index lists."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from attar.errors import InvalidInput

from .config import read_json

WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def files(root: Path) -> list[Path]:
    """List the files that hold the weights of the folder `root`.

    Raises InvalidInput that says how weights in another form become safetensors, or names a shard
    that is missing or not inside the folder.
    """
    if (root / WEIGHTS).is_file():
        return [root / WEIGHTS]
    if (root / SHARDS).exists():
        return _shards(root)
    if pickle := next((name for name in PICKLES if (root / name).exists()), None):
        raise InvalidInput(
            f"{root} has {pickle}, a pickle, which may run code as it is read; save it again as "
            "safetensors (save_pretrained does) where you trust it"
        )
    raise InvalidInput(f"{root / WEIGHTS} is missing or no file; save the whole folder again")


def count(root: Path) -> int:
    """Count the weights of the folder `root` without reading them; raises as `load` does."""
    total = 0
    for path in files(root):
        try:
            with safe_open(path, framework="pt") as weights:
                total += len(weights.keys())
        except (OSError, SafetensorError) as error:
            raise InvalidInput(f"{path} is damaged: {error}") from error
    return total


def load(root: Path) -> dict[str, Tensor]:
    """Read the weights of the folder `root`, by name.

    Raises InvalidInput as `files` does, and for a damaged file or a weight that is in two shards.
    """
    weights: dict[str, Tensor] = {}
    for path in files(root):
        try:
            part = load_file(path)
        except (OSError, SafetensorError) as error:
            raise InvalidInput(f"{path} is damaged: {error}") from error
        if twice := sorted(weights.keys() & part.keys()):
            raise InvalidInput(f"{path} holds {twice[0]!r}, and so does another shard; save again")
        weights |= part
    return weights


def _shards(root: Path) -> list[Path]:
    index = root / SHARDS
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise InvalidInput(f"{index} has no weight_map; save the whole folder again")
    return list(dict.fromkeys(_inside(root, name) for name in listed.values()))


def _inside(root: Path, name: object) -> Path:
    """Give the path of a shard, which is a file of the folder itself."""
    if not isinstance(name, str) or Path(name).name != name or "\0" in name or "\\" in name:
        raise InvalidInput(f"{root / SHARDS} names the shard {name!r}, which is no file's name")
    if not (root / name).is_file():
        raise InvalidInput(f"{root / name} is missing, a shard that {SHARDS} names; save it again")
    return root / name
