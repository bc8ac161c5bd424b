"""A corpus: pairs of texts, or single texts, from a file or a folder."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attar.errors import InvalidInput, MissingExtra, NotFound

from .columns import read_table
from .folder import TABLES, exists, stem_of, suffix_of, text_files
from .pairs import Pair, line_objects, pair_of, valid_text
from .split import TEST, TRAIN
from .unpacked import UnpackedSize

LINES, JSON_LINES = (".txt", ".text"), (".jsonl", ".ndjson", ".json")
COLUMN = "text"  # of a table or of objects, where none is named
STRINGS = ("string", "large_string", "string_view")  # Arrow's types; or a dictionary of one
PAIRED = frozenset(("summary", "body"))
SPAN = 64  # words of a text that its span is drawn from: those that an encoder is sure to read
DOCUMENT_BYTES = 2**26  # of a file that is one text, or has sections
BATCH = 2**14  # rows of Parquet that are read at a time
ROW_BYTES = 8  # of a row at least


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pairs of texts, and how they came about."""

    name: str
    pairs: tuple[Pair, ...]
    what: str  # a pair is
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def lines(self, *, held_out: int) -> Iterator[str]:
        """Give a line for each thing to know, `held_out` pairs being held out."""
        yield (
            f"{self.name}: {len(self.pairs):,} {self.what}; {len(self.pairs) - held_out:,} train, "
            f"{held_out:,} held out"
        )
        if self.passed_over:
            counts = (f"{count:,} {what}" for what, count in self.passed_over.items())
            yield "passed over: " + ", ".join(counts)


def read_corpus(path: Path, *, column: str | None = None) -> Corpus:
    """Read a file or folder of texts.

    A .txt file has a text a line, a folder a text a file (.txt, .md). Lines of JSON objects, a text
    table or a Parquet file have pairs in `summary` and `body` (and perhaps `name`, `package`), or
    texts in `column`, by default "text". A text alone is paired with a span of its first words, so
    that what compares two texts has two. Blank texts and those that occur before are passed over.

    Raises:
        NotFound: there is nothing at `path`, or no such column.
        InvalidInput: it is no such file, a line of it is damaged, or it is too large.
        MissingExtra: Parquet without the data extra.
    """
    suffix = suffix_of(path)
    refuse_special(path)
    if suffix in JSON_LINES and not path.is_dir():
        return _objects(path, column)
    if not exists(path):
        raise NotFound(f"there is no file or folder {path}")
    if path.is_dir():
        paths, passed_over = text_files(path)
        refuse_parts(path, paths)
        return _alone(path, map(document_text, paths), "files", passed_over)
    if suffix in LINES:
        if column is not None:
            raise InvalidInput(f"column is {column!r}, but {path} has a text a line; leave it out")
        return _alone(path, file_text(path).split("\n"), "lines", {})
    if suffix in TABLES:
        table = read_table(path)
        return _columns(path, table.fields, column, table.passed_over)
    if suffix == ".parquet":
        return _columns(path, parquet_columns(path, column), column, {})
    raise InvalidInput(
        f"{path} is no corpus; pass {', '.join((*LINES, *JSON_LINES, *TABLES, '.parquet'))} or a "
        "folder of .txt and .md files"
    )


def refuse_parts(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse a folder that holds only parts of a set: its test part would be trained on."""
    below = {folder / path.relative_to(folder).parts[0] for path in paths}
    parts = {stem_of(path): path for path in sorted(below)}
    train = [path for name, path in parts.items() if name in TRAIN]
    if train and parts.keys() <= {*TRAIN, *TEST} and len(parts) > len(train):
        names = ", ".join(path.name for path in parts.values())
        raise InvalidInput(
            f"{folder} holds the parts {names}; pass the one that trains, {train[0]}"
        )


def _objects(path: Path, column: str | None) -> Corpus:
    """Read lines of JSON objects: pairs, or texts under one key, as the first of them is."""
    rows, blank = line_objects(path)
    passed_over = {"blank lines": blank} if blank else {}
    first = rows[min(rows)] if rows else {}
    key = column or (COLUMN if COLUMN in first and not first.keys() >= PAIRED else None)
    if key is None:
        return Corpus(str(path), _paired(path, rows), "pairs of summary and body", passed_over)
    texts = []
    for number, row in rows.items():
        text = row.get(key)
        if not isinstance(text, str):
            raise InvalidInput(
                f"{path}, line {number}: {key!r} is {shown(text)}; each line is an object with a "
                "text there, or choose another by --read column=NAME"
            )
        texts.append(valid_text(f"{path}, line {number}", text))
    return _alone(path, texts, f"{key!r} of lines", passed_over)


def _paired(
    path: Path, rows: Mapping[int, Mapping[str, object]], unit: str = "line"
) -> tuple[Pair, ...]:
    pairs: dict[str, Pair] = {}
    for number, row in rows.items():
        pair = pair_of(f"{path}, {unit} {number}", row)
        if pair.name in pairs:
            raise InvalidInput(
                f"{path}, {unit} {number}: the name {pair.name!r} occurs twice; names must be "
                "unique"
            )
        pairs[pair.name] = pair
    return tuple(pairs.values())


def _columns(
    path: Path,
    table: Mapping[str, Sequence[str]],
    column: str | None,
    passed_over: Mapping[str, int],
) -> Corpus:
    """Take the pairs or the texts of a table."""
    if column is None and table.keys() >= PAIRED:
        rows = {
            number: dict(zip(table, row, strict=True))
            for number, row in enumerate(zip(*table.values(), strict=True))
        }
        return Corpus(
            str(path), _paired(path, rows, "row"), "pairs of summary and body", passed_over
        )
    named = [name for name in table if name.lower() == COLUMN]
    key = column or (named[0] if len(named) == 1 else next(iter(table)) if len(table) == 1 else "")
    if key not in table:
        what = f"no column {column!r}" if column else "no column called text"
        raise NotFound(f"{path} has {what}; choose by --read column=NAME, of {', '.join(table)}")
    return _alone(path, table[key], f"{key!r} of rows", passed_over)


def _alone(path: Path, texts: Iterable[str], where: str, passed_over: Mapping[str, int]) -> Corpus:
    """Pair each text with a span of it."""
    left = Counter(passed_over)
    unique: dict[str, None] = {}
    for text in map(str.strip, texts):
        if not text:
            left["blank texts"] += 1
        elif text in unique:
            left["texts that occur before"] += 1
        else:
            unique[text] = None
    pairs = tuple(Pair(text, "", _span(text), text) for text in unique)
    return Corpus(
        str(path),
        pairs,
        f"texts ({where}), each paired with a span of its first {SPAN} words, half of them",
        dict(left),
    )


def _span(text: str) -> str:
    """Give half of a text's first words, or characters of one word, that its hash places."""
    words = text.split()[:SPAN]
    units, mark = (words, " ") if len(words) > 1 else (list(text)[:SPAN], "")
    length = -(-len(units) // 2)
    draw = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    start = draw % (len(units) - length + 1)
    return mark.join(units[start : start + length])


def refuse_special(path: Path) -> None:
    """Raise InvalidInput for a pipe or a device, whose text may never end."""
    if exists(path) and not (path.is_file() or path.is_dir()):
        raise InvalidInput(f"{path} is neither a file nor a folder; pass one of them")


def document_text(path: Path) -> str:
    """Read a file that is one document, or has the sections of one; raises InvalidInput."""
    if (size := path.stat().st_size) > DOCUMENT_BYTES:
        raise InvalidInput(
            f"{path} has {size:,} bytes, and a document may have {DOCUMENT_BYTES:,}; divide it, or "
            "take it away"
        )
    return file_text(path)


def file_text(path: Path) -> str:
    """Read a file of UTF-8 text, perhaps after a byte order mark; raises InvalidInput."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    if (at := text.find("\0")) >= 0:
        raise InvalidInput(
            f"{path} has a NUL at character {at:,}, so it is no text in UTF-8; save it so, or "
            "remove it"
        )
    return text


def parquet_columns(path: Path, column: str | None = None) -> dict[str, Sequence[str]]:
    """Read the columns of texts that a Parquet file has, or one."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        what = f"reading {path}"
        raise MissingExtra(what, "data") from error
    try:
        unpacked = UnpackedSize(path)
        names = [
            field.name
            for field in parquet.read_schema(path)
            if str(getattr(field.type, "value_type", field.type)) in STRINGS
            and not pa.types.is_nested(field.type)
        ]
        wanted = [name for name in names if column in (None, name)]
        file = parquet.ParquetFile(path, read_dictionary=wanted)  # a repeated text is there once
        unpacked.require(ROW_BYTES * file.metadata.num_rows)
        columns: dict[str, list[str]] = {name: [] for name in wanted}
        size = 0
        for batch in file.iter_batches(batch_size=BATCH, columns=wanted):
            for name, texts in columns.items():
                places, values = batch.column(name).indices, batch.column(name).dictionary
                used = places.unique()  # the dictionary may be that of a whole file
                texts_of = dict(zip(used.to_pylist(), values.take(used).to_pylist(), strict=True))
                rows = [texts_of[place] or "" for place in places.to_pylist()]
                size += sum(map(len, rows))
                unpacked.require(size)
                texts.extend(rows)
        return dict(columns)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InvalidInput(f"{path} cannot be read as a Parquet file: {error}") from error


def shown(value: object) -> str:
    """Show a value of JSON in a few characters."""
    return "missing" if value is None else json.dumps(value)[:40]
