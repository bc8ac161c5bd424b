"""A small server of OpenAI's embeddings that answers as a function says: right, or with a fault."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

Rows = Callable[[Sequence[str]], np.ndarray]


@contextmanager
def embedding_server(rows: Rows) -> Iterator[str]:
    """Answer embeddings by `rows`, 400 where it raises ValueError; give the server's URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            try:
                matrix = rows(body["input"])
            except ValueError as error:
                self._send(400, {"error": {"message": str(error)}})
                return
            data = [{"index": i, "embedding": row} for i, row in enumerate(matrix.tolist())]
            self._send(200, {"object": "list", "data": data, "model": body["model"]})

        def _send(self, status: int, answer: object) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
