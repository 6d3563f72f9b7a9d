"""A hub on loopback that gives files as huggingface.co does, for tests of downloads."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

COMMIT = "1" * 40


def _handler(folder: Path) -> type[http.server.BaseHTTPRequestHandler]:
    class Hub(http.server.BaseHTTPRequestHandler):
        """Answers /OWNER/NAME/resolve/REVISION/FILE with FOLDER/OWNER/NAME/FILE."""

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self.wfile.write(self._answer())

        def _answer(self) -> bytes:
            parts = self.path.split("/")[1:]
            file = folder.joinpath(*parts[:2], parts[-1])
            data = file.read_bytes() if file.is_file() else b""
            self.send_response(200 if data or self.path == "/" else 404)
            if not data:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return data

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Hub


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a hub that gives the files below a folder."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The address of a hub that accepts connections and never answers, as behind a firewall."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
