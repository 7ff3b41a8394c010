"""Broken surroundings for a pipeline, as real as they can be on one machine."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2

from cdc_sink.demo.chain.chain import Chain


@contextmanager
def nonsense_server() -> Iterator[str]:
    """An HTTP server that answers everything with a page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, in memory. Needs root, directly or through sudo."""
    folder.mkdir()
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*prefix, "mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run([*prefix, "umount", "-l", str(folder)], check=True)


@contextmanager
def let_through(chain: Chain) -> Iterator[None]:
    """Let the registry take any change; in Apicurio only its own level says so, a subject's can't."""
    address = f"{chain.registry_url}/config"
    assert httpx2.put(address, json={"compatibility": "NONE"}).status_code == 200
    try:
        yield
    finally:
        assert httpx2.put(address, json={"compatibility": "BACKWARD"}).status_code == 200
