"""The front door of data: a name or a path becomes a source, by what is found there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from attar.errors import InvalidInput, NotFound

from . import audio, columns, pictures, spoken_digits
from .arrays import Form
from .audio import audio_folder
from .columns import table_parts
from .images import digits
from .npz import npz_parts
from .pictures import image_folder
from .source import Source
from .split import Part, source
from .tables import breast_cancer, wine

SHIPPED: Mapping[str, Callable[[], Source]] = {
    "digits": digits,
    "breast_cancer": breast_cancer,
    "wine": wine,
}
"""Sources that scikit-learn brings along."""
TEST = ("test", "val", "validation")  # what a test part beside `train` is called, the best first
Parts = tuple[Part, Part | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What `read` was told beside the path."""

    form: Form | None
    side: int | None
    rate: int | None
    length: int | None
    columns: Sequence[str] | None
    label: str | None
    part: str | None
    test_last: int | None

    def only(self, spec: str, kind: str, *usable: str) -> None:
        """Refuse a choice that this kind of data has no use for."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name not in usable:
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
) -> Source:
    """Read a source: one that is shipped (digits, breast_cancer, wine), a file or a folder.

    A folder holds images or wav files, flat or in a folder a class; Parquet files of one schema;
    what `datasets` saved; or an entry called train (a folder, train.npz, train.csv, ...) and
    perhaps one called test. A file is .npz (`file.npz#NAME` chooses one of several sets), .parquet,
    .csv or .tsv, perhaps gzipped.

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
        test_last: the last so many rows are the test part. Without any, and with labels, three in
            ten of each class are, always the same ones.

    Raises:
        NotFound: nothing has that name or path.
        InvalidInput: what is there cannot be read, or a choice does not apply to it.
        MissingExtra: Parquet or `datasets` without the data extra.
    """
    choices = _Choices(
        form=form,
        side=side,
        rate=rate,
        length=length,
        columns=columns,
        label=label,
        part=part,
        test_last=test_last,
    )
    if spec in SHIPPED:
        choices.only(spec, "shipped")
        return SHIPPED[spec]()
    path: Path = Path(spec)
    member: str | None = None
    if not path.exists() and "#" in spec:
        before, _, member = spec.rpartition("#")
        path = Path(before)
    if not path.exists():
        raise NotFound(
            f"there is no file or folder {path}; pass one, or a name: {', '.join(SHIPPED)}"
        )
    if path.is_dir() and (path / spoken_digits.AUDIO).exists():
        choices.only(spec, "spoken digits", "length")
        return spoken_digits.spoken_digits(path, length=length or spoken_digits.RATE)
    train, test = _parts(path, member, choices)
    return source(train, test, test_last=test_last)


def _parts(path: Path, member: str | None, choices: _Choices) -> Parts:
    """Read what is at a path."""
    if member is not None and path.suffix != ".npz":
        raise InvalidInput(f"#{member} chooses a set of an .npz file; {path} is none")
    if path.is_dir():
        return _folder(path, choices)
    if path.suffix == ".npz":
        choices.only(str(path), "an .npz file", "form", "side", "test_last")
        return npz_parts(path, member=member, form=choices.form, side=choices.side)
    if path.name.endswith(columns.SUFFIXES):
        usable = "form", "columns", "label", "part", "test_last"
        choices.only(str(path), "a text table", *usable)
        return table_parts(
            path,
            columns=choices.columns,
            label=choices.label,
            part=choices.part,
            form=choices.form,
        )
    if path.suffix == ".parquet":
        return _parquet([path], choices), None
    raise InvalidInput(
        f"{path} is none of .npz, .parquet, {', '.join(columns.SUFFIXES)}; convert it, or pass a "
        "folder of images or recordings"
    )


def _folder(folder: Path, choices: _Choices) -> Parts:
    """Read a folder by what lies in it."""
    if (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists():
        from .huggingface import dataset_parts  # noqa: PLC0415 - an extra

        usable = "form", "side", "columns", "label", "test_last"
        choices.only(str(folder), "a saved data set", *usable)
        return dataset_parts(
            folder,
            columns=choices.columns,
            label=choices.label,
            form=choices.form,
            side=choices.side,
        )
    named = _named(folder)
    if "train" in named:
        test = next((named[name] for name in TEST if name in named), None)
        return _whole(named["train"], choices), None if test is None else _whole(test, choices)
    files = sorted(folder.glob("*.parquet"))
    if files:
        return _parquet(files, choices), None
    if any(path.suffix.lower() in audio.SUFFIXES for path in folder.rglob("*")):
        choices.only(str(folder), "a folder of recordings", "rate", "length", "test_last")
        clips, classes = audio_folder(folder, rate=choices.rate, length=choices.length)
        return Part(str(folder), clips, classes), None
    if any(path.suffix.lower() in pictures.SUFFIXES for path in folder.rglob("*")):
        choices.only(str(folder), "a folder of images", "side", "test_last")
        images, classes = image_folder(folder, side=choices.side)
        return Part(str(folder), images, classes), None
    raise InvalidInput(
        f"{folder} holds nothing to read: images ({', '.join(sorted(pictures.SUFFIXES))}), .wav "
        "or .parquet files, train.npz, train.csv or a folder train, or what datasets saved"
    )


def _named(folder: Path) -> dict[str, Path]:
    """Give the entries that can be a part, by name without suffixes."""
    readable = (".npz", ".parquet", *columns.SUFFIXES)
    return {
        path.name.split(".")[0].lower(): path
        for path in sorted(folder.iterdir())
        if path.is_dir() or path.name.endswith(readable)
    }


def _whole(path: Path, choices: _Choices) -> Part:
    """Read an entry that is one part."""
    train, test = _parts(path, None, choices)
    if test is not None:
        raise InvalidInput(f"{path} is one part of a set, but has parts itself; pass it alone")
    return train


def _parquet(files: Sequence[Path], choices: _Choices) -> Part:
    from .parquet import parquet_part  # noqa: PLC0415 - an extra

    usable = "form", "side", "columns", "label", "test_last"
    choices.only(str(files[0]), "Parquet", *usable)
    return parquet_part(
        files,
        columns=choices.columns,
        label=choices.label,
        form=choices.form,
        side=choices.side,
    )
