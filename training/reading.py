"""The front door of data: a name or a path becomes a source, by what is found there.

A folder holds images or wav files, flat or in a folder a class; Parquet files of one schema; what
`datasets` saved; tar files of images, as WebDataset packs them; or nothing but an entry called
train (a folder, train.npz, train.csv, ...) and perhaps one called test, valid or the like. A file
is .npz (`file.npz#NAME` chooses one of several sets), .parquet, .tar, .csv or .tsv, perhaps
gzipped.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from attar.errors import InvalidInput, NotFound

from .data.arrays import Form
from .data.audio import WavFiles, wav_files
from .data.columns import table_splits
from .data.folder import KIND_OF, TABLES, exists, files_of, hidden, is_data, stem_of, suffix_of
from .data.npz import npz_splits
from .data.pictures import image_files
from .data.source import Source
from .data.split import TEST, TRAIN, DataSplit, best_test, described, source
from .data.webdataset import tar_images
from .datasets import spoken_digits
from .datasets.digits import digits
from .datasets.tables import breast_cancer, wine

SHIPPED: Mapping[str, Callable[[], Source]] = {
    "digits": digits,
    "breast_cancer": breast_cancer,
    "wine": wine,
}
"""Sources that scikit-learn brings along."""
TrainAndTest = tuple[DataSplit, DataSplit | None]
LabelChoice: TypeAlias = Literal["read", "none"]
SHARD = re.compile(
    r"-\d+-of-\d+$"
)  # of one split in several Parquet files, as Hugging Face has them
TAR_SHARD = re.compile(r"-\d+$")  # of one split in several tar files, as WebDataset has them


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What `read` was given next to the path."""

    form: Form | None
    side: int | None
    rate: int | None
    length: int | None
    columns: Sequence[str] | None
    label: str | None
    part: str | None
    test_last: int | None
    skip_bad: bool | None  # None for false, as a choice that was not made
    labelled: bool

    def only(self, spec: str, kind: str, *usable: str) -> None:
        """Refuse a choice that this kind of data has no use for."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "labelled" and value is not None and field.name not in usable:
                raise InvalidInput(
                    f"{field.name} is {value!r}, but {spec} is {kind}, which takes "
                    f"{', '.join(usable) or 'no choices'}: leave {field.name} out"
                )


def read(
    spec: str,
    *,
    form: Form | None = None,
    side: int | None = None,
    rate: int | None = None,
    length: int | None = None,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    part: str | None = None,
    test_last: int | None = None,
    labels: LabelChoice = "read",
    skip_bad: bool = False,
) -> Source:
    """Read a source: one that is shipped (digits, breast_cancer, wine), a file or a folder.

    Which files and folders can be read is said above. The source's `summary` says what was read,
    passed over and assumed.

    Args:
        spec: the name or path.
        form: what rows of numbers are: images, series (n, channels, samples) or a table; by default
            their number of axes says it.
        side: pixels; images are resized so that the shorter side fits, and cut to the centre.
        rate: Hz that recordings are resampled to; the first one's by default.
        length: samples of a clip; one second by default.
        columns: those that make an item; all of numbers, or the one of images or lists, by default.
        label: the column of classes; "label" by default, where there is one.
        part: the column that says of each row whether it is train or test.
        test_last: the last so many rows are the test split. Without any, and with labels, three in
            ten of each class are, always the same ones.
        labels: none reads items without labels: folders are no classes, and the column of classes
            is left out.
        skip_bad: decode each image of a folder or of tar files once, and leave out those that
            cannot be read; the summary names them.

    Raises:
        NotFound: nothing has that name or path.
        InvalidInput: what is there cannot be read, or a choice does not apply to it.
        MissingExtra: Parquet or `datasets` without the data extra.
    """
    if labels not in get_args(LabelChoice):
        raise InvalidInput(f"labels is one of {', '.join(get_args(LabelChoice))}; got {labels!r}")
    choices = _Choices(
        form=form,
        side=side,
        rate=rate,
        length=length,
        columns=columns,
        label=label,
        part=part,
        test_last=test_last,
        skip_bad=skip_bad or None,
        labelled=labels != "none",
    )
    if spec in SHIPPED:
        choices.only(spec, "shipped")
        return _with_choices(spec, SHIPPED[spec](), choices)
    path, member = _existing(spec)
    if path.is_dir() and (path / spoken_digits.AUDIO).exists():
        choices.only(spec, "spoken digits", "length")
        complete = spoken_digits.spoken_digits(path, length=length or spoken_digits.RATE)
        return _with_choices(spec, complete, choices)
    train, test = _splits(path, member, choices)
    if not choices.labelled:
        train, test = replace(train, labels=None), test and replace(test, labels=None)
    return source(train, test, test_last=test_last)


def _existing(spec: str) -> tuple[Path, str | None]:
    """Give the path and, after a #, the name of a set in it; NotFound where there is none."""
    path: Path = Path(spec)
    member: str | None = None
    if not spec.strip():
        raise NotFound("the data's name is empty, as of a variable that is not set; pass a path")
    if not exists(path) and "#" in spec:
        before, _, member = spec.rpartition("#")
        path = Path(before)
    if not exists(path):
        raise NotFound(
            f"there is no file or folder {path}; pass one, or a name: {', '.join(SHIPPED)}"
        )
    return path, member


def _with_choices(spec: str, complete: Source, choices: _Choices) -> Source:
    """Leave out the labels of a set that has its splits, where none are wanted."""
    if not choices.labelled:
        complete = replace(complete, train_labels=None, test_labels=None)
    shadows = spec in SHIPPED and Path(spec).exists()
    notes = (f"{spec} is shipped; what is called so in this folder is ./{spec}",)
    return described(spec, complete, notes=notes if shadows else ())


def _splits(path: Path, member: str | None, choices: _Choices) -> TrainAndTest:
    """Read what is at a path."""
    suffix = suffix_of(path)
    if member is not None and suffix != ".npz":
        raise InvalidInput(f"#{member} chooses a set of an .npz file; {path} is none")
    if path.is_dir():
        return _folder(path, choices)
    if suffix == ".npz":
        choices.only(str(path), "an .npz file", "form", "side", "test_last")
        return npz_splits(path, member=member, form=choices.form, side=choices.side)
    if suffix in TABLES:
        usable = "form", "columns", "label", "part", "test_last"
        choices.only(str(path), "a text table", *usable)
        return table_splits(
            path,
            columns=choices.columns,
            label=choices.label,
            labelled=choices.labelled,
            part=choices.part,
            form=choices.form,
        )
    if suffix == ".parquet":
        return _parquet([path], choices), None
    if suffix == ".tar":
        return _tars([path], choices), None
    raise InvalidInput(
        f"{path} is none of .npz, .parquet, .tar, {', '.join(TABLES)}; convert it, or pass a folder"
        " of images or recordings"
    )


def _folder(folder: Path, choices: _Choices) -> TrainAndTest:
    """Read a folder by what lies in it."""
    if _saved(folder):
        from .data.huggingface import dataset_splits

        usable = "form", "side", "columns", "label", "test_last"
        choices.only(str(folder), "a saved data set", *usable)
        return dataset_splits(
            folder,
            columns=choices.columns,
            label=choices.label,
            labelled=choices.labelled,
            form=choices.form,
            side=choices.side,
        )
    entries = _entries(folder)
    if split := _split(folder, entries):
        return _train_and_test(folder, entries, split, choices)
    if not entries:
        raise InvalidInput(
            f"{folder} holds nothing to read: images, .wav, .npz, .parquet or .tar files, tables, "
            "or what datasets saved"
        )
    kind, files = files_of(folder)
    if kind in ("Parquet files", "tar files"):
        inside = [path for path in files.paths if path.parent != folder]
        if inside:
            raise InvalidInput(f"{folder} holds {inside[0]}; pass the folder that it lies in")
        part = (_tars if kind == "tar files" else _parquet)(files.paths, choices)
        return replace(part, passed_over={**files.passed_over, **part.passed_over}), None
    if kind in ("tables", "arrays"):
        raise InvalidInput(
            f"{folder} holds {len(files.paths)} {kind}, of which none is called train; pass one "
            f"alone ({files.paths[0]}), or call two train and test"
        )
    _refuse_parts_below(folder, entries)
    if not choices.labelled:
        files = replace(files, flat=True)
    if kind == "recordings":
        choices.only(str(folder), "a folder of recordings", "rate", "length", "test_last")
        return wav_files(files, rate=choices.rate, length=choices.length), None
    choices.only(str(folder), "a folder of images", "side", "test_last", "skip_bad")
    return image_files(files, side=choices.side, skip_bad=bool(choices.skip_bad)), None


def _train_and_test(
    folder: Path,
    entries: Mapping[str, Sequence[Path]],
    split: tuple[str, str | None, tuple[str, ...]],
    choices: _Choices,
) -> TrainAndTest:
    """Read the entries that `_split` named, and count what lies next to them."""
    train, test, others = split
    part = _split_of(entries[train], choices)
    left = {f"part {name}, since {test} tests": 1 for name in others}
    names = {path.name for paths in entries.values() for path in paths}
    if strays := sum(path.name not in names for path in folder.iterdir()):
        left["hidden or no data next to the parts"] = strays
    read = replace(part, passed_over={**part.passed_over, **left})
    return read, None if test is None else _split_of(entries[test], _alike(choices, part))


def _refuse_parts_below(folder: Path, entries: Mapping[str, Sequence[Path]]) -> None:
    """Refuse a folder of nothing but a folder with parts, which would be one class."""
    inside = [path for paths in entries.values() for path in paths]
    if len(inside) == 1 and inside[0].is_dir() and _split(inside[0], _entries(inside[0])):
        raise InvalidInput(
            f"{folder} holds {inside[0].name} alone, which has a part that trains; pass {inside[0]}"
        )


def _alike(choices: _Choices, train: DataSplit) -> _Choices:
    """Read a test split as the training split was: its columns in their order, its rate."""
    if isinstance(train.items, WavFiles):
        return replace(choices, rate=train.items.rate, length=train.items.length)
    return replace(choices, columns=train.columns or choices.columns)


def _saved(folder: Path) -> bool:
    """Say whether `datasets` saved a folder."""
    return any((folder / name).exists() for name in ("dataset_dict.json", "dataset_info.json"))


def _entries(folder: Path) -> dict[str, list[Path]]:
    """Give a folder's entries that are data, by name; shards of one split have one name."""
    entries: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not hidden(path) and (is_data(path) or _saved(path)):
            shard = TAR_SHARD if suffix_of(path) == ".tar" else SHARD
            name = path.name if path.is_dir() else shard.sub("", stem_of(path))
            single = not path.is_dir() and KIND_OF.get(suffix_of(path)) in ("images", "recordings")
            entries.setdefault(path.name if single else name.lower(), []).append(path)
    return entries


def _split(
    folder: Path, entries: Mapping[str, Sequence[Path]]
) -> tuple[str, str | None, tuple[str, ...]] | None:
    """Give the names of the training split, the test split and the others, which are left out.

    Gives None where the entries are no splits: train is one only next to a test split, or alone.
    """
    train = [name for name in entries if name in TRAIN]
    test = best_test(entries)
    tests = [name for name in entries if name in TEST]
    rest = [name for name in entries if name not in (*TRAIN, *TEST)]
    if (train or tests) and not rest and len(train) != 1:
        raise InvalidInput(
            f"{folder} holds {', '.join((*train, *tests))}: call one train, which trains, and one "
            "test; rename them if they are classes"
        )
    if train and tests and rest:
        raise InvalidInput(
            f"{folder} has the parts {train[0]} and {test}, and with them "
            f"{', '.join(entries[name][0].name for name in rest[:3])}"
            f"{' ...' if len(rest) > 3 else ''}; move that away, or rename the parts if they are "
            "classes"
        )
    if not train or rest:
        return None
    return train[0], test, tuple(name for name in tests if name != test)


def _split_of(paths: Sequence[Path], choices: _Choices) -> DataSplit:
    """Read an entry that is one split, or the Parquet or tar files of one."""
    for suffix, reader in ((".parquet", _parquet), (".tar", _tars)):
        if all(suffix_of(path) == suffix for path in paths):
            return reader(paths, choices)
    if len(paths) > 1:
        raise InvalidInput(
            f"{', '.join(str(path) for path in paths)} have one name; keep the one that is the part"
        )
    (path,) = paths
    train, test = _splits(path, None, choices)
    if test is not None:
        raise InvalidInput(f"{path} is one part of a set, but has parts itself; pass it alone")
    return train


def _parquet(files: Sequence[Path], choices: _Choices) -> DataSplit:
    from .data.parquet import parquet_part

    usable = "form", "side", "columns", "label", "test_last"
    choices.only(str(files[0]), "Parquet", *usable)
    return parquet_part(
        files,
        columns=choices.columns,
        label=choices.label,
        labelled=choices.labelled,
        form=choices.form,
        side=choices.side,
    )


def _tars(files: Sequence[Path], choices: _Choices) -> DataSplit:
    choices.only(str(files[0]), "WebDataset", "side", "test_last", "skip_bad")
    return tar_images(
        files,
        side=choices.side,
        labelled=choices.labelled,
        skip_bad=bool(choices.skip_bad),
    )
