"""The folder of a run: the checks before a training command writes into it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attar.errors import AlreadyExists, InvalidInput

from . import digest
from .checkpoints import encoder_folder
from .checkpoints.run import CHECKPOINT, Record, read_record
from .data.pairs import Split
from .lineage import FRESH, Lineage, refuse_other
from .reading import SHIPPED
from .run_data import report

TAKEN: Mapping[str, str] = {
    "config.json": "a model of Hugging Face's libraries",
    "modules.json": "a model of Hugging Face's libraries",
    "manifest.json": "a bundle",
}
"""Files of folders that no run may write into: they would be read in place of its encoder."""


def begin(out: Path, lineage: Lineage, *, restart: bool) -> None:
    """Check that a folder is empty or holds this run, and report the step at which it continues.

    Raises AlreadyExists for a folder of something else than a run, and InvalidInput for one of
    another run, naming each fact that differs. With `restart`, a run's encoder is removed.
    """
    if out.exists() and not out.is_dir():
        raise AlreadyExists(f"--out {out} is a file; give a folder")
    for name, what in TAKEN.items():
        if (out / name).exists():
            raise AlreadyExists(f"--out {out} holds {what} ({name}); give another folder")
    if restart:
        encoder_folder.remove(out)
        return
    _refuse_other_encoder(out, lineage)
    if (out / CHECKPOINT).exists():
        record = read_record(out / CHECKPOINT)
        refuse_other(out / CHECKPOINT, record.lineage, lineage)
        report(f"{out} holds this run, of which {record.step} steps are made")


def source(data: str, out: Path, pairs: Split | None = None) -> object:
    """Give the lineage of the data: the name of what is shipped, else name and content hash.

    A run's own folder is no part of the data that it lies in. `pairs` are what a name stood for.
    """
    path = Path(data)
    if not path.exists():
        path = Path(data.rpartition("#")[0])  # FILE.npz#NAME
    if pairs is not None and data == "docstrings":
        content = digest.of_texts(
            text
            for pair in (*pairs.train, *pairs.held_out)
            for text in (pair.name, pair.summary, pair.body)
        )
    elif data in SHIPPED:
        return data
    elif path.resolve() == out.resolve():
        raise InvalidInput(f"--out {out} is the folder of the data; give another folder")
    else:
        content = digest.of_path(path, without=out)
    return {"name": Path(data).resolve().name, digest.SHA256: content}


def start(folder: Path) -> dict[str, object]:
    """Give the name and the content hash of the encoder that a run starts from."""
    parts = (folder / name for name in (encoder_folder.WEIGHTS, encoder_folder.ABOUT))
    content = digest.of_texts(digest.of_path(part) for part in parts)
    return {"name": folder.resolve().name, digest.SHA256: content}


def settings_of(settings: Any, *, but: Sequence[str]) -> dict[str, object]:
    """Give a recipe's settings by name, less those that are said elsewhere."""
    return {name: value for name, value in asdict(settings).items() if name not in but}


def say_small(settings: Any, *, items: int, usual: int) -> None:
    """Say that a batch has all items, where there are fewer than a recipe's batch has."""
    if settings.batch_size == items < usual:
        report(f"a batch has all {items} items, which are fewer than the recipe's {usual}")


def story(record: Record, paper: str) -> dict[str, object]:
    """Give the lineage of an encoder: its checkpoint's, and the paper of its recipe."""
    return {**record.story, "paper": paper}


def _refuse_other_encoder(out: Path, lineage: Lineage) -> None:
    if not (out / encoder_folder.ABOUT).exists():
        return
    try:
        then = encoder_folder.lineage_of(out)
    except InvalidInput:
        return  # damaged, as by a kill; the run's own checkpoint is asked next
    if not then.keys() & lineage.keys():
        raise AlreadyExists(f"--out {out} holds an encoder that is of no run; {FRESH}")
    refuse_other(out / encoder_folder.ABOUT, {name: then.get(name) for name in lineage}, lineage)
