"""The server: what adds lines of its own to the log is silenced before it is imported."""

import os

# gRPC's core tells each handshake that failed, as plain text among JSON.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
