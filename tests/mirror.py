"""A real HTTP server for a directory of files that can serve each of them wrongly.

::

    with Mirror(tmp_path / "served") as mirror:                 # on 127.0.0.1, at a free port
        MNIST.mirrors = [mirror.url]                            # "http://127.0.0.1:40123/"
        mirror.misbehave("train-images-idx3-ubyte.gz", "flipped", times=1)
        ...                                                     # the first download is damaged, the next one is good
        assert mirror.downloads["train-images-idx3-ubyte.gz"] == 2

Paths are relative to the directory, as in the URL. Torchvision asks twice for each file: first for redirects only (a
GET with the header ``Method: HEAD``), then for the content. A first request that is answered well counts as no download
and uses up no fault, so that ``times=1`` spoils one download whatever the fault is.
"""

import os
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote

Fault = Literal[
    "truncated",  # half of the bytes that Content-Length announces, then an orderly end
    "reset",  # half of the bytes, then the connection is reset
    "flipped",  # the right number of bytes, all bits of the middle one inverted
    "slow",  # whole, but dribbled over SLOW_S seconds
    "stalled",  # half of the bytes, then silence until the mirror closes
    "error",  # 500 Internal Server Error
    "closed",  # no answer at all
]
# These leave no answer to the request for redirects either.
_REFUSALS = ("error", "closed")
SLOW_S = 0.5


class Mirror:
    """Serves a directory from a thread for as long as the ``with`` block lasts.

    Attributes:
        url: where the directory is served, with a slash at its end.
        downloads: for each path, how often its content was asked for.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.downloads: Counter[str] = Counter()
        self.closing = threading.Event()
        self._faults: dict[str, tuple[Fault, float]] = {}
        self._lock = threading.Lock()
        self._no_proxy = os.environ.get("no_proxy")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"mirror": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def misbehave(self, path: str, fault: Fault, times: int | None = None) -> None:
        """Serve a path wrongly for its next ``times`` downloads, or always when None."""
        with self._lock:
            self._faults[path] = (fault, float("inf") if times is None else times)

    def behave(self) -> None:
        """Serve every path well from now on."""
        with self._lock:
            self._faults.clear()

    def take_fault(self, path: str, *, only_redirects: bool) -> Fault | None:
        """Count one request and tell what to do wrong with it."""
        with self._lock:
            fault, times_left = self._faults.get(path, (None, 0))
            if times_left <= 0:
                fault = None
            if only_redirects and fault not in _REFUSALS:
                return None
            self.downloads[path] += 1
            if fault is not None:
                self._faults[path] = (fault, times_left - 1)
            return fault

    def __enter__(self) -> Self:
        # Where a proxy is configured, urllib would ask it for this machine's own server; children inherit this.
        os.environ["no_proxy"] = "127.0.0.1"
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._no_proxy is None:
            os.environ.pop("no_proxy", None)
        else:
            os.environ["no_proxy"] = self._no_proxy


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0]).lstrip("/")
        file = self.mirror.directory / path
        only_redirects = self.headers.get("Method") == "HEAD"
        fault = self.mirror.take_fault(path, only_redirects=only_redirects)
        if fault == "closed":
            return
        if fault == "error" or not file.is_file():
            self.send_error(500 if fault == "error" else 404)
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        # A client that has seen enough hangs up.
        with suppress(ConnectionError):
            self._send(b"" if only_redirects else content, fault)

    def _send(self, content: bytes, fault: Fault | None) -> None:
        middle = len(content) // 2
        if fault in ("truncated", "reset", "stalled"):
            content = content[:middle]
        elif fault == "flipped":
            content = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        if fault == "slow":
            steps = 10
            size = len(content) // steps + 1
            for start in range(0, len(content), size):
                self.wfile.write(content[start : start + size])
                time.sleep(SLOW_S / steps)
            return
        self.wfile.write(content)
        if fault == "stalled":
            self.mirror.closing.wait(timeout=120)
        if fault == "reset":
            # Lingering for zero seconds makes close() send RST; http.server would have sent an orderly FIN before.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Write no access log."""
