"""The commands' arguments and flags; a command imports its part of attar only when it runs."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from attar.errors import InvalidInput, MissingExtra
from attar.export.targets.triton import MAX_BATCH, Device
from attar.training.choices import Pooling, Route, Side, Strategy

try:
    import typer
    from typer.core import TyperCommand
except ImportError as error:
    what = "the attar command"
    raise MissingExtra(what, "server") from error

from .options import (
    Base,
    Calibration,
    Certificates,
    Changes,
    CheckedServer,
    CollectionName,
    ComparedVariant,
    CopiedLayers,
    Documents,
    Encoder,
    Evaluated,
    ExportData,
    General,
    Imported,
    Ladder,
    Layers,
    Length,
    Licence,
    MaxBatch,
    MaxSeconds,
    MinCosine,
    NewBundle,
    Out,
    PretrainData,
    Reading,
    Restart,
    RightCosine,
    Rule,
    Seed,
    Server,
    ServerModel,
    ServerProtocol,
    SomeBundle,
    Start,
    StaticWidth,
    Steps,
    StudentEncoder,
    StudentKind,
    StudentLength,
    Teacher,
    TextData,
    Tokens,
    Variant,
    Weights,
    Widths,
    Words,
)

app = typer.Typer(
    name="attar",
    help="From data without labels to embeddings in production and on devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_TARGETS = "`attar export-triton` or `attar export-tensorrt`"
_BINARIZE = "`attar binarize`"
_FORMER: Mapping[str, str] = {
    **dict.fromkeys(("--target", "--variant", "--max-batch", "--device", "--lengths"), _TARGETS),
    **dict.fromkeys(("--layers", "--bits", "--beta", "--static-sigma", "--steps"), _BINARIZE),
    "--native": _BINARIZE,
    "--attention": f"`attar export --softmax` or {_BINARIZE}",
}
"""What `attar export` took once, and the command that takes it now."""


SomeRoute = Annotated[
    Route | None, typer.Option(help="Which network of a folder with a Router, which holds two.")
]
SomePooling = Annotated[
    Pooling | None,
    typer.Option(help="How tokens become one vector; for a folder that does not state it."),
]


@app.command("import")
def import_(
    folder: Imported,
    bundle: NewBundle,
    *,
    route: SomeRoute = None,
    pooling: SomePooling = None,
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
    max_seconds: MaxSeconds = None,
    weights: Weights = None,
    licence: Licence = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="A variant to attempt besides fp32, such as int8; may be repeated."),
    ] = None,
    calibration: Calibration = None,
    tokens: Tokens = False,
) -> None:
    """Turn an encoder of another library into a bundle, held to the torch encoder's numbers."""
    with _extra("hf"):
        from .commands import import_bundle

    import_bundle(
        folder,
        bundle,
        route=route,
        pooling=pooling,
        normalize=normalize,
        prompts={"query": query_prompt, "passage": passage_prompt},
        dims=dims,
        tower=tower,
        max_seconds=max_seconds,
        weights=weights,
        licence=licence,
        variants=variant or (),
        calibration=calibration,
        tokens=tokens,
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
    data: PretrainData = None,
    read: Reading = None,
    changes: Changes = None,
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
        int, typer.Option(min=0, help="Processes that read batches while others are learned.")
    ] = 0,
    strategy: Annotated[
        Strategy, typer.Option(help="Under torchrun: how parameters are kept, whole or in parts.")
    ] = "ddp",
) -> None:
    """Pretrain an encoder without labels; an interrupted run of the same settings is resumed."""
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
def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe by name; see `attar recipes`.")],
    *,
    vary: Annotated[
        list[str],
        typer.Option(help="A setting and its values, as name=value,value; may be repeated."),
    ],
    out: Out,
    data: PretrainData = None,
    read: Reading = None,
    changes: Changes = None,
    steps: Steps = None,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Pretrain at every combination of settings, and keep the run with the highest RankMe."""
    with _extra("export"):
        from attar.training.sweeping import SWEEP, sweep

        from .commands import show_sweep
        from .console import show_log

    show_log()
    sweep(
        recipe,
        out,
        vary=vary,
        data=data,
        reading=read or (),
        changes=changes or (),
        steps=steps,
        seed=seed,
        restart=restart,
    )
    show_sweep(out / SWEEP)


@app.command()
def evaluate(
    encoder: Evaluated,
    *,
    data: Annotated[str, typer.Option(help="What judges: a folder, a file or a shipped name.")],
    read: Reading = None,
    suite: Annotated[
        bool,
        typer.Option(
            "--suite", help="Judge images also by slice, on corruptions and by finding copies."
        ),
    ] = False,
    groups: Annotated[
        Path | None,
        typer.Option(help="With --suite: a group's name a line, for each image that judges."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --suite: JSON file to write.")
    ] = None,
) -> None:
    """Probe an encoder on data that it was not trained on."""
    with _extra("export"):
        from .console import show_log
        from .evaluation import show_figures, show_suite

    show_log()
    if suite:
        show_suite(encoder, data, reading=read or (), groups=groups, out=out)
        return
    if groups is not None or out is not None:
        raise InvalidInput("--groups and --out are of the suite; add --suite, or leave them out")
    show_figures(encoder, data, reading=read or ())


@app.command()
def adapt(
    base: Base,
    *,
    out: Out,
    data: Documents = "docstrings",
    read: Reading = None,
    rule: Rule = None,
    length: Length = None,
    widths: Widths = "",
    layers: Layers = None,
    general: General = None,
    steps: Steps = None,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Train a text encoder on your documents, without labels, and report what that gained."""
    with _extra("export"):
        from attar.training.adapting import adapt

        from .commands import read_widths
        from .console import show_log

    show_log()
    adapt(
        base,
        out,
        data=data,
        reading=read or (),
        rule=rule,
        length=length,
        widths=read_widths("--widths", widths),
        layers=layers,
        general=general,
        steps=steps,
        seed=seed,
        restart=restart,
    )


@app.command()
def distill(
    teacher: Teacher,
    *,
    out: Out,
    data: TextData = "docstrings",
    read: Reading = None,
    student: StudentKind = "layers",
    init: Start = None,
    layers: CopiedLayers = None,
    length: StudentLength = None,
    widths: Widths = "",
    general: General = None,
    min_cosine: MinCosine = None,
    dim: StaticWidth = None,
    encoder: StudentEncoder = None,
    ladder: Ladder = False,
    steps: Steps = None,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Make a small encoder of a large one, or of texts one of each size, without labels."""
    with _extra("export"):
        from attar.training.distilling import distill

        from .commands import copied_layers, read_widths
        from .console import show_log

    show_log()
    shared: dict[str, Any] = {"data": data, "reading": read or (), "general": general}
    shared |= {"widths": read_widths("--widths", widths)}
    shared |= {"steps": steps, "seed": seed, "restart": restart}
    single: dict[str, Any] = {
        "student": student,
        "init": init,
        "layers": copied_layers(layers),
        "length": length,
        "min_cosine": min_cosine,
        "dim": dim,
        "encoder": encoder,
    }
    if not ladder:
        distill(teacher, out, **shared, **single)
        return
    with _extra("demo"):
        from .ladder import run
    run(Path(teacher), out, single, **shared)


class _Export(TyperCommand):
    """`attar export`, which names the command that an option has moved to."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as every command does; raises InvalidInput for an option that has moved."""
        for option in (word.split("=")[0] for word in args):
            if option in _FORMER:
                raise InvalidInput(
                    f"{option} is no option of `attar export` any more; use {_FORMER[option]}"
                )
        return super().parse_args(ctx, args)


@app.command(cls=_Export)
def export(
    encoder: Encoder,
    bundle: NewBundle,
    *,
    data: ExportData = None,
    read: Reading = None,
    softmax: Annotated[
        bool,
        typer.Option(
            "--softmax",
            help="Leave out the variants with binarized attention, which are else written where "
            "the encoder's attention can be binarized.",
        ),
    ] = False,
    compatible_with: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="The teacher's bundle, whose documents this text encoder's queries are to search; "
            "refused where they are too far apart.",
        ),
    ] = None,
    tokens: Tokens = False,
) -> None:
    """Write the variants of an encoder that pass their gates to a bundle."""
    with _extra("export"):
        from .commands import export_encoder
        from .console import show_log

    show_log()
    export_encoder(
        encoder,
        bundle,
        data=data,
        reading=read or (),
        softmax=softmax,
        compatible_with=compatible_with,
        tokens=tokens,
    )


@app.command()
def binarize(
    encoder: Encoder,
    bundle: NewBundle,
    *,
    data: ExportData = None,
    read: Reading = None,
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
            "--native",
            help="Also write variants with the operator of attar-native, which must be installed.",
        ),
    ] = False,
    steps: Steps = None,
) -> None:
    """Export a text encoder, also with attention hashed (EcoFormer) and distilled back."""
    with _extra("export"):
        from .commands import binarize_encoder, read_hashing
        from .console import show_log

    show_log()
    settings = read_hashing(
        layers=layers, bits=bits, beta=beta, static_sigma=static_sigma, steps=steps
    )
    binarize_encoder(
        encoder, bundle, settings=settings, data=data, reading=read or (), native=native
    )


@app.command("export-triton")
def export_triton(
    bundle: SomeBundle,
    models: Annotated[Path, typer.Argument(help="The model repository to write into.")],
    *,
    variant: Variant = None,
    device: Annotated[Device, typer.Option(help="Where the graph runs.")] = "cpu",
    max_batch: MaxBatch = MAX_BATCH,
) -> None:
    """Write a bundle to a model repository of NVIDIA's Triton Inference Server."""
    from .export_targets import triton

    triton(bundle, models, variant=variant, device=device, max_batch=max_batch)


@app.command("export-tensorrt")
def export_tensorrt(
    bundle: SomeBundle,
    engines: Annotated[Path, typer.Argument(help="The folder of engines to write into.")],
    *,
    variant: Variant = None,
    max_batch: MaxBatch = MAX_BATCH,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="The ends of the buckets of length, such as 32,128,512 (default: a few up to the "
            "encoder's longest)."
        ),
    ] = None,
) -> None:
    """Build a bundle's TensorRT engine on this machine's GPU."""
    with _extra("tensorrt"):
        from .export_targets import tensorrt

        tensorrt(bundle, engines, variant=variant, max_batch=max_batch, lengths=lengths)


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
    role: Annotated[
        str, typer.Option(help="query, passage, or another name of the bundle's prompts.")
    ] = "passage",
) -> None:
    """Embed texts on this machine; one JSON object a line."""
    import attar

    encoder = attar.load(bundle, variant=variant)
    embeddings = encoder.embed(texts, role=role)
    columns = (embeddings.vectors, embeddings.tokens, embeddings.truncated)
    for row, tokens, truncated in zip(*(column.tolist() for column in columns), strict=True):
        typer.echo(json.dumps({"embedding": row, "tokens": tokens, "truncated": truncated}))


@app.command()
def upsert(
    server: Server,
    collection: CollectionName,
    documents: Annotated[
        Path,
        typer.Argument(
            help="A folder of .txt, .md, .rst, .html or .py files, one such file, or a .jsonl, "
            ".csv or .parquet file with `text`."
        ),
    ],
    *,
    model: Annotated[
        str, typer.Option(help="The model of a new collection, where the server has several.")
    ] = "",
    words: Words = None,
    overlap: Annotated[
        int, typer.Option(help="Most words that a passage shares with the one before.")
    ] = 0,
    column: Annotated[
        str | None, typer.Option(help="The column or key of the text (default: text or body).")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="Make a new collection with a text index, for keyword and hybrid searches, of the "
            "words of this language, or of any: none."
        ),
    ] = None,
    ca: Certificates = None,
) -> None:
    """Write the passages of documents to a collection, which is made if it is missing.

    The key of a server that asks for one is read from the environment, ATTAR_KEY.
    """
    with _extra("server"):
        from .collections import client_of, upsert_documents

    with _extra("train"), client_of(server, ca=ca) as client:  # train reads documents
        upsert_documents(
            client,
            collection,
            documents,
            model=model,
            words=words,
            overlap=overlap,
            column=column,
            language=language,
        )


@app.command()
def search(
    server: Server,
    collection: CollectionName,
    query: Annotated[str, typer.Argument(help="A text to search for.")],
    *,
    limit: Annotated[int, typer.Option(help="Most hits.")] = 5,
    filter_: Annotated[
        str | None,
        typer.Option("--filter", help="Conditions on the payload, a JSON object."),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="dense: by embeddings, keyword: by words, or hybrid: by both; the last two need a "
            "collection with a text index."
        ),
    ] = "dense",
    rerank: Annotated[
        str | None, typer.Option(help="A model of the server that ranks the hits anew.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, with the whole payload.")
    ] = False,
    ca: Certificates = None,
) -> None:
    """Search a collection, and print the best points.

    The key of a server that asks for one is read from the environment, ATTAR_KEY.
    """
    with _extra("server"):
        from .collections import client_of, show_hits

    with client_of(server, ca=ca) as client:
        show_hits(
            client,
            collection,
            query,
            limit=limit,
            filter_=filter_,
            mode=mode,
            rerank=rerank,
            as_json=as_json,
        )


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
        Path, typer.Option("--out", help="JSON to write; a plot is written next to it.")
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
    server: CheckedServer = None,
    protocol: ServerProtocol = "openai",
    model: ServerModel = None,
    variant: ComparedVariant = None,
    min_cosine: RightCosine = 0.999,
    ca: Certificates = None,
) -> None:
    """Hold a bundle's recorded figures to what it does here; status 1 if something differs.

    With --server, hold the embeddings of any server to the bundle. The key of a server that asks
    for one is read from the environment, ATTAR_KEY.
    """
    if server is not None:
        if items is not None or against is not None:
            raise InvalidInput("--server has texts of its own; leave out --items and --against")
        with _extra("client"):
            from .conformance import show_server_checks

            holds = show_server_checks(
                bundle,
                server,
                protocol=protocol,
                model=model,
                variant=variant,
                min_cosine=min_cosine,
                ca=ca,
            )
    else:
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

        undamaged = show_damage(data_dir)
    if not undamaged:
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
        bool, typer.Option(help="On few documents: shows that everything runs, not how well.")
    ] = False,
) -> None:
    """Documents without labels to search, anomaly scores and classes over gRPC, on this machine."""
    with _extra("demo"):
        from .demo.stages import run

    run(out, seed=seed, quick=quick)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Name the extra that brings what an import inside lacks."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f"this command (it imports {error.name})", name) from error
