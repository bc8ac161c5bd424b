"""A server's answers, held to a bundle: what differs, in words."""

import os
from pathlib import Path

from rich.table import Table

import attar
from attar.client.conformance import HttpServer, Protocol, check_server

from .collections import KEY
from .console import console, printable

VERDICTS = {True: "holds", False: "DIFFERS", None: "not judged"}


def show_server_checks(
    bundle: Path,
    url: str,
    *,
    protocol: Protocol,
    model: str | None,
    variant: str | None,
    min_cosine: float,
    ca: Path | None,
) -> bool:
    """Print each check of a server's embeddings; give whether none differs from the bundle."""
    chosen = variant or attar.Bundle.open(bundle).manifest.reference
    encoder = attar.load(bundle, variant=chosen)
    server = HttpServer(
        url,
        protocol=protocol,
        model=encoder.manifest.name if model is None else model,
        key=os.environ.get(KEY),
        ca=ca,
    )
    checks = check_server(server, encoder, min_cosine=min_cosine)
    table = Table("check", "", "worst cosine", "", box=None)
    for check in checks:
        table.add_row(
            check.what,
            VERDICTS[check.holds],
            "" if check.cosine is None or check.cosine < -1 else f"{check.cosine:.4f}",
            printable(check.why),
            style="red" if check.holds is False else None,
        )
    console.print(table)
    differing = [check.what for check in checks if check.holds is False]
    if differing:
        console.print(f"{url} differs from {encoder.manifest.name}: {', '.join(differing)}")
    else:
        console.print(f"{url} answers as {encoder.manifest.name}, variant {chosen}, does")
    return not differing
