"""The commands' arguments and flags; a command imports its part of attar only when it runs."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from attar.errors import InvalidInput, MissingExtra

try:
    import typer
except ImportError as error:
    what = "the attar command"
    raise MissingExtra(what, "server") from error

app = typer.Typer(
    name="attar",
    help="From data without labels to embeddings in production and on devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Teacher = Annotated[Path, typer.Argument(help="A sentence-transformers folder.")]
NewBundle = Annotated[Path, typer.Argument(help="Bundle folder to write, NAME.attar.")]
SomeBundle = Annotated[Path, typer.Argument(help="A bundle, folder or zip.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Data = Annotated[
    str,
    typer.Option(
        help="'docstrings', the documentation installed with attar; a .txt file of a text a "
        "line, or a folder of .txt and .md files; a .jsonl, .csv or .parquet file with `text`, or "
        "with `summary` and `body`."
    ),
]
Read = Annotated[
    list[str] | None,
    typer.Option(
        help="How the data is to be read, as name=value: form, side, rate, length, columns, label, "
        "labels, part, test_last; for texts column; may be repeated."
    ),
]
ExportData = Annotated[
    str | None,
    typer.Option(
        help="What parity is checked on and int8 calibrated with, as pretrain and distill take it; "
        "docstrings for texts, noise for tensors, if not said."
    ),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimiser steps (default: the recipe's).")]
Restart = Annotated[
    bool,
    typer.Option("--restart", help="Train anew where --out holds a run, whose files are removed."),
]
Seed = Annotated[int, typer.Option(min=0, help="Decides initial weights and the order of data.")]
Target = Literal["tensorrt", "triton"]
Pooling = Literal["mean", "cls", "last", "max"]
Side = Literal["vision", "text"]
Device = Literal["cpu", "gpu"]
Attention = Literal["softmax", "binarized"]
Strategy = Literal["ddp", "fsdp"]

OF_BINARIZED = ("layers", "bits", "beta", "static_sigma", "native", "steps")
OF_TARGETS: Mapping[str, frozenset[str]] = {
    "tensorrt": frozenset({"variant", "max_batch", "lengths"}),
    "triton": frozenset({"variant", "max_batch", "device"}),
}
"""The options of `attar export` that go with a --target; the others go with making a bundle."""


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="A sentence-transformers or transformers folder.")],
    bundle: NewBundle,
    *,
    pooling: Annotated[
        Pooling | None,
        typer.Option(help="How tokens become one vector; for a folder that does not say it."),
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Give embeddings unit length.")
    ] = False,
    query_prompt: Annotated[
        str, typer.Option(help="What stands before a query; for a folder without prompts.")
    ] = "",
    passage_prompt: Annotated[str, typer.Option(help="The same before a passage.")] = "",
    dims: Annotated[
        str, typer.Option(help="Widths that embeddings may be cut to, as the model was trained.")
    ] = "",
    tower: Annotated[
        Side | None, typer.Option(help="Which encoder of a CLIP folder, which holds two.")
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The longest sound that the bundle takes (default: 30). Memory grows with"
            " its square.",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="A variant to attempt besides fp32, such as int8; may be repeated."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="A text a line, to calibrate on (default: documentation found here)."),
    ] = None,
) -> None:
    """Turn a Hugging Face folder into a bundle, held to the torch encoder's numbers."""
    with _extra("hf"):
        from .commands import import_bundle

    import_bundle(
        folder,
        bundle,
        pooling=pooling,
        normalize=normalize,
        prompts={"query": query_prompt, "passage": passage_prompt},
        dims=dims,
        tower=tower,
        max_seconds=max_seconds,
        variants=variant or (),
        calibration=calibration,
    )


@app.command()
def recipes() -> None:
    """List the recipes: paper, family, modality and claim."""
    with _extra("export"):
        from .commands import list_recipes

    list_recipes()


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="A recipe by name; see `attar recipes`.")],
    *,
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder of images or recordings, an .npz, .parquet, .csv or .tsv file, or what "
            "`datasets` saved; for texts, a .txt file of a text a line, a folder of .txt and .md "
            "files, or a .jsonl, .csv or .parquet file with `text`, or with `summary` and `body`; "
            "for molecules, a table with a column `smiles`. Without it digits, breast_cancer or "
            "docstrings, or what the recipe's claim is shown on."
        ),
    ] = None,
    read: Read = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the recipe, as name=value; may be repeated."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="A tokenizer.json; without one, it is learned from the texts."),
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
    restart: Restart = False,
    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Rows whose activations are kept; the others' are made again."),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the networks (torch.compile).")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Threads that get batches ready while others are learned.")
    ] = 0,
    strategy: Annotated[
        Strategy, typer.Option(help="Under torchrun: how parameters are kept, whole or in parts.")
    ] = "ddp",
) -> None:
    """Pretrain an encoder without labels; an interrupted run is taken up again, and no other."""
    with _extra("export"):
        from attar.training.pretraining import pretrain

        from .console import show_log

    show_log()
    pretrain(
        recipe,
        out,
        data=data,
        reading=read or (),
        changes=changes or (),
        tokenizer=tokenizer,
        steps=steps,
        seed=seed,
        restart=restart,
        micro_batch=micro_batch,
        compiled=compiled,
        workers=workers,
        strategy=strategy,
    )


@app.command()
def distill(
    teacher: Teacher,
    *,
    out: Out,
    data: Data = "docstrings",
    read: Read = None,
    init: Annotated[
        Path | None,
        typer.Option(help="An encoder folder to start from; without one, the teacher."),
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Teach a small text encoder a large one's embeddings, without labels."""
    with _extra("export"):
        from attar.training.distilling import distill

        from .console import show_log

    show_log()
    distill(
        teacher,
        out,
        data=data,
        reading=read or (),
        init=init,
        steps=steps,
        seed=seed,
        restart=restart,
    )


@app.command()
def export(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder that pretrain, distill or Hugging Face's libraries wrote; a bundle for "
            "--target."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(help="Bundle folder to write, NAME.attar; what a --target writes into."),
    ],
    *,
    data: ExportData = None,
    read: Read = None,
    attention: Annotated[
        Attention | None,
        typer.Option(
            help="binarized: also with attention hashed (EcoFormer) and distilled back; softmax: "
            "as it is alone; if not said, binarized too where that can be."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers to hash, such as 0,2 (default: those that alone do little damage)."
        ),
    ] = None,
    bits: Annotated[int | None, typer.Option(min=1, help="Length of a code (default: 16).")] = None,
    beta: Annotated[
        float | None,
        typer.Option(help="What is added to every weight, above --bits (default: bits + 1)."),
    ] = None,
    static_sigma: Annotated[
        bool,
        typer.Option("--static-sigma", help="Freeze the kernels' bandwidths: a faster graph."),
    ] = False,
    native: Annotated[
        bool,
        typer.Option(
            "--native", help="Also variants with the operator of attar-native, which must be here."
        ),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of that distillation (default: the recipe's).")
    ] = None,
    target: Annotated[
        Target | None, typer.Option(help="Make this from a bundle, instead of a bundle.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="With --target: the variant to take, by name.")
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(min=1, help="With --target: most rows of a request; 64 if not said."),
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="With triton: where the graph runs; cpu if not said.")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="With tensorrt: the ends of its buckets of length, such as 32,128,512; a few up "
            "to the encoder's longest if not said."
        ),
    ] = None,
) -> None:
    """Write an encoder's variants that pass their gates to a bundle, or a bundle for a --target."""
    _refuse_strays(context, target)
    if target == "triton":
        from .export_targets import triton

        return triton(source, out, variant=variant, device=device, max_batch=max_batch)
    if target == "tensorrt":
        with _extra("tensorrt"):
            from .export_targets import tensorrt

            return tensorrt(source, out, variant=variant, max_batch=max_batch, lengths=lengths)
    with _extra("export"):
        from attar.export.exporting import export as export_folder

        from .commands import conversion, show_exported
        from .console import show_log

    show_log()
    if attention == "softmax":
        _refuse_flags_of_binarized(context)
        return show_exported(export_folder(source, out, data=data, reading=read or ()))
    settings = conversion(
        layers=layers, bits=bits, beta=beta, static_sigma=static_sigma, steps=steps
    )
    required = attention == "binarized" or _given(context, *OF_BINARIZED) is not None
    return show_exported(
        export_folder(
            source,
            out,
            data=data,
            reading=read or (),
            binarized=settings,
            required=required,
            native=native,
        )
    )


@app.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],
    }
)
def serve(context: typer.Context) -> None:
    """Serve bundles over gRPC; `attar serve --help` lists the settings."""
    import asyncio

    with _extra("server"):
        from attar.server.app import serve as run
        from attar.server.settings import read

    asyncio.run(run(read(context.args)))


@app.command()
def embed(
    bundle: SomeBundle,
    texts: Annotated[list[str], typer.Argument(help="Texts to embed.")],
    *,
    variant: Annotated[str | None, typer.Option(help="A variant by name.")] = None,
    role: Annotated[str, typer.Option(help="query or passage.")] = "passage",
) -> None:
    """Embed texts on this machine; one JSON object a line."""
    import attar

    encoder = attar.load(bundle, variant=variant)
    embeddings = encoder.embed(texts, role=role)  # type: ignore[arg-type]  # embed checks it
    columns = (embeddings.vectors, embeddings.tokens, embeddings.truncated)
    for row, tokens, truncated in zip(*(column.tolist() for column in columns), strict=True):
        typer.echo(json.dumps({"embedding": row, "tokens": tokens, "truncated": truncated}))


@app.command()
def sign(
    bundle: SomeBundle,
    *,
    key: Annotated[
        Path,
        typer.Option(help="Private key, PEM: openssl genpkey -algorithm ed25519 -out FILE."),
    ],
) -> None:
    """Sign a bundle, for `serve --require-signature` and others who check who made it."""
    from attar.bundle import Bundle

    signed = Bundle.open(bundle).sign(key)
    typer.echo(f"{bundle} is signed by key {signed.signed_by}")


@app.command()
def inspect(
    bundle: SomeBundle,
    *,
    require_signature: Annotated[
        Path | None,
        typer.Option(help="Public keys, PEM, one of which must have signed the bundle."),
    ] = None,
    ops: Annotated[
        bool, typer.Option("--ops", help="Count operations by layer, and model their energy.")
    ] = False,
    variant: Annotated[
        str | None, typer.Option(help="With --ops: a variant by name (default: the reference).")
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="With --ops: tokens of an item (default: the longest).")
    ] = None,
    batch: Annotated[int, typer.Option(help="With --ops: items of a batch.")] = 1,
) -> None:
    """Verify a bundle and show what it holds and what was measured."""
    if ops:
        if require_signature is not None:
            raise typer.BadParameter("--require-signature goes without --ops; ask in two commands")
        with _extra("export"):
            from .inspect import show_operations

            show_operations(bundle, variant=variant, length=length, batch=batch)
        return
    if variant is not None or length is not None:
        raise typer.BadParameter("--variant and --length say what --ops counts; add --ops")
    with _extra("server"):
        from .console import show_bundle

    show_bundle(bundle, require_signature=require_signature)


@app.command()
def bench(
    bundle: SomeBundle,
    *,
    out: Annotated[
        Path, typer.Option("--out", help="JSON to write; a plot is written beside it.")
    ] = Path("bench.json"),
    variant: Annotated[
        list[str] | None, typer.Option(help="A variant; may be repeated (default: all).")
    ] = None,
    length: Annotated[
        list[int] | None,
        typer.Option(help="Tokens of an item; may be repeated (default: up to the longest)."),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(help="Items of a batch; may be repeated (default: 1 and 8)."),
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="Threads; may be repeated (default: 1 and all).")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long each combination is repeated.")] = 1.0,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Pick the best variant within, such as latency=5,file=30,memory=200: "
            "ms of the longest item, MB of the file, MB of peak memory."
        ),
    ] = None,
) -> None:
    """Time every variant that this machine can run; status 1 if none fits the budget."""
    with _extra("server"):
        from .bench import run

    if not run(
        bundle,
        out,
        variants=variant or (),
        lengths=length or (),
        batches=batch or (1, 8),
        threads=threads or (),
        seconds=seconds,
        budget=budget,
    ):
        raise typer.Exit(1)


@app.command()
def verify(
    bundle: SomeBundle,
    *,
    against: Annotated[
        Path | None,
        typer.Option(help="The encoder it was made of: a teacher's folder, or one of attar's."),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(help="Compare on these: a text a line, or an .npy array (default: its own)."),
    ] = None,
) -> None:
    """Hold a bundle's recorded figures to what it does here; status 1 if something differs."""
    with _extra("export"):
        from .inspect import show_checks

        holds = show_checks(bundle, items=items, against=against)
    if not holds:
        raise typer.Exit(1)


@app.command()
def check(
    data_dir: Annotated[Path, typer.Argument(help="A server's --data-dir, or a copy of it.")],
) -> None:
    """Compare every checksum in a server's data folder; status 1 if something is damaged."""
    with _extra("server"):
        from .data_check import show_damage

        whole = show_damage(data_dir)
    if not whole:
        raise typer.Exit(1)


@app.command()
def report(
    bundle: SomeBundle,
    *,
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")] = Path("report.html"),
    bench: Annotated[
        Path | None, typer.Option(help="What `attar bench` wrote, to draw latency by length.")
    ] = None,
) -> None:
    """Write a bundle's report as one HTML page that needs no network."""
    with _extra("server"):
        from .inspect import write_page

    write_page(bundle, out, bench=bench)


@app.command()
def demo(
    *,
    out: Out = Path("build/demo"),
    seed: Seed = 0,
    quick: Annotated[
        bool, typer.Option(help="A tenth of the work: shows that everything runs, not how well.")
    ] = False,
) -> None:
    """Documents without labels to search, anomaly scores and classes over gRPC, on this machine."""
    with _extra("demo"):
        from .demo import run

    run(out, seed=seed, quick=quick)


def _refuse_strays(context: typer.Context, target: str | None) -> None:
    """Refuse an option that this use of `attar export` would not read."""
    every = frozenset().union(*OF_TARGETS.values())
    own = OF_TARGETS[target] if target else frozenset(context.params) - every
    if flag := _given(context, *sorted({*context.params} - own - {"source", "out", "target"})):
        use = f"--target {target}" if target else "an encoder without --target"
        raise InvalidInput(f"{flag} says nothing to `attar export` of {use}; leave it out")


def _refuse_flags_of_binarized(context: typer.Context) -> None:
    """Refuse what only `--attention binarized` would read."""
    if flag := _given(context, *OF_BINARIZED):
        raise InvalidInput(
            f"{flag} says how attention is binarized, and --attention softmax leaves it as it is; "
            "leave out one of them"
        )


def _given(context: typer.Context, *names: str) -> str | None:
    """Give the first of these options, as it is written, that the command line has."""
    for name in names:
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE":
            return f"--{name.replace('_', '-')}"
    return None


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Name the extra that brings what an import inside lacks."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f"this command (it imports {error.name})", name) from error
