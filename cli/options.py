"""Arguments and options that a command's signature would be too long with, or that several take."""

from pathlib import Path
from typing import Annotated, Literal

from attar.errors import MissingExtra
from attar.training.choices import Student
from attar.training.data.passages import PASSAGE_WORDS

try:
    import typer
except ImportError as error:
    what = "the attar command"
    raise MissingExtra(what, "server") from error

Teacher = Annotated[
    str,
    typer.Argument(
        help="A folder that attar or Hugging Face's libraries wrote, or an image network by name: "
        "timm:NAME or torch:MODULE:FACTORY."
    ),
]
Base = Annotated[
    Path,
    typer.Argument(help="A sentence-transformers folder, or one that attar wrote."),
]
Imported = Annotated[
    str,
    typer.Argument(
        help="A sentence-transformers or transformers folder, or an image network by name: "
        "timm:NAME or torch:MODULE:FACTORY."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="A file of weights for timm: and torch:, not those that come with it."),
]
Licence = Annotated[
    str | None, typer.Option(help="Of these weights, where the network does not say it.")
]
Encoder = Annotated[
    Path,
    typer.Argument(help="A folder that attar or one of Hugging Face's libraries wrote."),
]
Evaluated = Annotated[
    str,
    typer.Argument(
        help="A folder that attar or Hugging Face's libraries wrote; with --suite, of images, also "
        "a bundle, timm:NAME or torch:MODULE:FACTORY."
    ),
]
StudentEncoder = Annotated[
    str | None, typer.Option(help="Of images: the student's encoder by name (default: small).")
]
NewBundle = Annotated[Path, typer.Argument(help="Bundle folder to write, NAME.attar.")]
SomeBundle = Annotated[Path, typer.Argument(help="A bundle, folder or zip.")]
Server = Annotated[str, typer.Argument(help="A server, host:port of its gRPC.")]
CollectionName = Annotated[str, typer.Argument(metavar="COLLECTION", help="A collection by name.")]
Words = Annotated[
    int | None, typer.Option(help=f"Most words of a passage (default: {PASSAGE_WORDS}).")
]
Certificates = Annotated[
    Path | None,
    typer.Option("--ca", help="Connect by TLS, and trust the authorities of this file."),
]
CheckedServer = Annotated[
    str | None,
    typer.Option(help="Check the answers of a server instead, by its URL: http://host:port."),
]
ServerModel = Annotated[
    str | None, typer.Option(help="The server's model (default: the bundle's name).")
]
ComparedVariant = Annotated[
    str | None, typer.Option(help="Compare a server with this variant (default: the reference).")
]
RightCosine = Annotated[
    float, typer.Option(help="Least cosine of a server's embedding with the variant's.")
]
ServerProtocol = Annotated[
    Literal["openai", "tei", "kserve"],
    typer.Option(help="What the server speaks: OpenAI's protocol, TEI's or KServe's."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]

PretrainData = Annotated[
    str | None,
    typer.Option(
        help="A folder of images or recordings, an .npz, .parquet, .csv or .tsv file, or what "
        "`datasets` saved; for texts, a .txt file of a text a line, a folder of .txt, .md "
        "or .html files, or a .jsonl, .csv or .parquet file with `text`, or with `summary` and "
        "`body`; for molecules, a table with a column `smiles`. Without it digits, breast_cancer "
        "or docstrings, or what the recipe's claim is shown on."
    ),
]
TextData = Annotated[
    str,
    typer.Option(
        help="'docstrings', the documentation installed with attar; a .txt file of a text a "
        "line, or a folder of .txt, .md, .rst, .html or .py files; a .jsonl, .csv or .parquet file "
        "with `text`, or with `summary` and `body`."
    ),
]
ExportData = Annotated[
    str | None,
    typer.Option(
        help="What parity is checked on and int8 calibrated with, as pretrain and distill take it "
        "(default: docstrings for texts, noise for tensors)."
    ),
]
Documents = Annotated[
    str,
    typer.Option(
        help="'docstrings', the documentation installed with attar; a folder of .md, .rst, .html, "
        ".txt and .py files, or one of them; a .jsonl, .csv or .parquet file with `text`, and "
        "perhaps `title` and `group`."
    ),
]
Rule = Annotated[
    str | None,
    typer.Option(
        help="How a query and its passage are made of a document: title_and_body, "
        "summary_and_rest, first_sentence_and_rest, neighbouring_passages, inverse_cloze, "
        "keyword_query or two_dropouts (default: titles, first paragraphs, or a sentence of each "
        "passage, by what the documents have)."
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        min=1, help="Tokens that a text is cut at (default: what the base reads, at most 256)."
    ),
]
Widths = Annotated[
    str, typer.Option(help="Widths that embeddings may be cut to, such as 64,128; learned with it.")
]
Layers = Annotated[
    int | None,
    typer.Option(
        min=1, help="So many of the last layers learn (default: half); the token table if all do."
    ),
]
General = Annotated[
    Path | None,
    typer.Option(
        help="Texts, one a line, on which the encoder must still agree with the base (default: "
        "descriptions of the installed packages)."
    ),
]
Start = Annotated[
    Path | None,
    typer.Option("--init", help="An encoder folder to start from; without one, the teacher."),
]
StudentKind = Annotated[
    Student, typer.Option(help="Some of the teacher's layers, or a static table of its tokens.")
]
StaticWidth = Annotated[
    int | None, typer.Option("--dim", min=1, help="The width of a static student (default: 256).")
]
CopiedLayers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        help="How many of the teacher's layers the student copies, or with commas which, such as "
        "0,5 (default: 2, the first and the last).",
    ),
]
StudentLength = Annotated[
    int | None,
    typer.Option(
        "--length",
        help="Tokens that a text is cut at, and the most that the student reads (default: what the "
        "teacher reads, at most 128).",
    ),
]
Ladder = Annotated[
    bool,
    typer.Option(
        "--ladder",
        help="Make a static student, one of two layers and one of six, export each and the "
        "teacher to --out, and show recall and latency of all, at several widths.",
    ),
]
MinCosine = Annotated[
    float | None,
    typer.Option(
        min=-1,
        max=1,
        help="The least mean cosine to the teacher on general texts (default: 0.35); a student "
        "below it is refused.",
    ),
]
Reading = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        help="How to read the data, as name=value: form, side, rate, length, columns, label, "
        "labels, part, test_last, skip_bad; for texts column; may be repeated.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the recipe, as name=value; may be repeated."),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimiser steps (default: the recipe's).")]
Seed = Annotated[int, typer.Option(min=0, help="Decides initial weights and the order of data.")]
Restart = Annotated[
    bool,
    typer.Option("--restart", help="Train again where --out holds a run, whose files are removed."),
]

Variant = Annotated[
    str | None, typer.Option(help="The variant to take, by name (default: the reference).")
]
MaxBatch = Annotated[int, typer.Option(min=1, help="The most rows of a request.")]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="The longest sound that the bundle takes (default: 30). Memory grows with its square.",
    ),
]
Tokens = Annotated[
    bool,
    typer.Option(
        "--tokens",
        help="Also give token vectors: of an image's patches or places, or a text's tokens.",
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(help="A text a line, to calibrate on (default: documentation on this machine)."),
]
