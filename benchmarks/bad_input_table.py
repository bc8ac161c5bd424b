"""Print, as a Markdown table, the status and message that each bad request comes back with."""

import tempfile
from pathlib import Path

import grpc

from .hostile.requests import CASES, send, world


def main() -> None:
    """Start a server on tiny bundles, send every case, print a row each."""
    print("| RPC | fault | status | field | message |\n| --- | --- | --- | --- | --- |")
    with (
        tempfile.TemporaryDirectory() as folder,
        world(Path(folder)) as (target, fingerprint),
        grpc.insecure_channel(target) as channel,
    ):
        for case in CASES:
            outcome = send(case, channel, fingerprint)
            message = " ".join(outcome.message.split()).replace("|", "\\|")
            field = ", ".join(outcome.fields)
            print(f"| {case.rpc} | {case.fault} | {outcome.code} | {field} | {message} |")


if __name__ == "__main__":
    main()
