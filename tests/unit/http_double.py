"""A real HTTP server on 127.0.0.1 that answers by path what a test gave it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HttpDouble:
    """Answers by path with the status and body it was given, and notes what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {}
        self.asked: list[str] = []
        self.bodies: list[object] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                path = self.path.partition("?")[0]
                length = int(self.headers.get("Content-Length") or 0)
                if length:
                    double.bodies.append(json.loads(self.rfile.read(length)))
                double.asked.append(f"{self.command} {path}")
                status, body = double.answers.get(path, (404, {"error_code": 404, "message": ""}))
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def forget(self) -> None:
        """Start the next test with nothing answered and nothing asked."""
        self.answers.clear()
        self.asked.clear()
        self.bodies.clear()


@contextmanager
def running_double() -> Iterator[HttpDouble]:
    """Serve until the end of the block."""
    double = HttpDouble()
    thread = threading.Thread(target=double.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield double
    finally:
        double.server.shutdown()
        thread.join()
        double.server.server_close()
