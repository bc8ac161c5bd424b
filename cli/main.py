"""The `attar` command; each subcommand imports its part of attar only when it runs."""

import json
import sys
from pathlib import Path
from typing import Annotated

from attar.errors import AttarError, MissingExtra

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

Folder = Annotated[Path, typer.Argument(exists=True, file_okay=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Data = Annotated[
    str,
    typer.Option(
        help="'docstrings', the documentation installed beside attar, or a JSON-lines file with "
        "`name`, `summary` and `body` in each line."
    ),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimiser steps [default: the recipe's].")]
Seed = Annotated[int, typer.Option(min=0, help="Decides initial weights and the order of data.")]


@app.command("import")
def import_(
    folder: Folder,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write, NAME.attar.")],
) -> None:
    """Turn a sentence-transformers folder into a bundle, held to the torch encoder's numbers."""
    from .commands import import_folder

    import_folder(folder, bundle)


@app.command()
def recipes() -> None:
    """List the recipes: paper, family, modality and claim."""
    from .commands import list_recipes

    list_recipes()


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="A text recipe by name; see `attar recipes`.")],
    out: Out,
    data: Data = "docstrings",
    tokenizer: Annotated[
        Path | None,
        typer.Option(exists=True, help="A tokenizer.json; without one, it is learned from the data."),
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
) -> None:
    """Pretrain a text encoder from scratch, without labels; an interrupted run is taken up again."""
    from .commands import pretrain_text

    pretrain_text(recipe, out, data=data, tokenizer=tokenizer, steps=steps, seed=seed)


@app.command()
def distill(
    teacher: Folder,
    out: Out,
    data: Data = "docstrings",
    init: Annotated[
        Path | None,
        typer.Option(exists=True, help="An encoder folder to start from; without one, the teacher."),
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
) -> None:
    """Teach a small text encoder a sentence-transformers folder's embeddings, without labels."""
    from .commands import distill_text

    distill_text(teacher, out, data=data, init=init, steps=steps, seed=seed)


@app.command()
def export(
    encoder: Folder,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write, NAME.attar.")],
    data: Data = "docstrings",
    binarized: Annotated[
        bool, typer.Option(help="Also hash attention (EcoFormer) and distil it back.")
    ] = True,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of that distillation [default: the recipe's].")
    ] = None,
) -> None:
    """Write an encoder's variants to a bundle: fp32, int8 and binarized, those that pass their gates."""
    from .commands import export_encoder

    export_encoder(encoder, bundle, data=data, binarized=binarized, steps=steps)


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
)
def serve(context: typer.Context) -> None:
    """Serve bundles over gRPC; `attar serve --help` lists the settings."""
    import asyncio
    import logging

    from attar.server.app import serve as run
    from attar.server.settings import read

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(run(read(context.args)))


@app.command()
def embed(
    bundle: Annotated[Path, typer.Argument(exists=True)],
    texts: Annotated[list[str], typer.Argument(help="Texts to embed.")],
    variant: Annotated[str | None, typer.Option(help="A variant by name.")] = None,
    role: Annotated[str, typer.Option(help="query or passage.")] = "passage",
) -> None:
    """Embed texts on this machine; one JSON object a line."""
    import attar

    encoder = attar.load(bundle, variant=variant)
    embeddings = encoder.embed(texts, role=role)  # type: ignore[arg-type]  # embed checks it
    for row, tokens, truncated in zip(
        embeddings.vectors.tolist(), embeddings.tokens.tolist(), embeddings.truncated.tolist(), strict=True
    ):
        typer.echo(json.dumps({"embedding": row, "tokens": tokens, "truncated": truncated}))


@app.command()
def inspect(bundle: Annotated[Path, typer.Argument(exists=True)]) -> None:
    """Verify a bundle and show what it holds and what was measured."""
    from .commands import show_bundle

    show_bundle(bundle)


@app.command()
def demo(
    out: Out = Path("build/demo"),
    seed: Seed = 0,
    quick: Annotated[
        bool, typer.Option(help="A tenth of the work: shows that everything runs, not how well.")
    ] = False,
) -> None:
    """Documents without labels to search, anomaly scores and classes over gRPC, on this machine."""
    from .demo import run

    run(out, seed=seed, quick=quick)


def main() -> None:
    """Run the command; a mistake of the user's is one line on stderr and exit status 2."""
    try:
        app()
    except (AttarError, FloatingPointError) as error:
        sys.stderr.write(f"attar: {error}\n")
        sys.exit(2)
