"""A load generator: so many clients, each of which sends its next request when it has read the last answer.

It writes a request that was made beforehand and reads no more of an answer than its length, so that it takes little of
the cores that it shares with the server. It runs as a process of its own.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import uvloop


class Load(NamedTuple):
    """What a server did under load.

    Attributes:
        requests_per_s: answered with status 200.
        p50_ms: half of them were answered within this.
        p99_ms: and all but one in a hundred within this.
        num_errors: answers with another status, and broken connections.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    num_errors: int


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, latencies: list[float], errors: list[bytes], give_up: float) -> None:
        self.request, self.latencies, self.errors, self.give_up = request, latencies, errors, give_up
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not answer_is_whole(self.buffer):
            return
        now = time.perf_counter()
        if self.buffer.startswith(b"HTTP/1.1 200"):
            self.latencies.append(now - self.started)
        else:
            self.errors.append(self.buffer[:200])
        self.buffer = b""
        if now < self.give_up:
            self.send()
        else:
            self.transport.close()
            self.done.set_result(None)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.errors.append(b"the connection was closed")
            self.done.set_result(None)


def answer_is_whole(data: bytes) -> bool:
    """Tell whether an HTTP answer has arrived to its end: by its length, or by its last chunk."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
        if line.startswith(b"transfer-encoding:") and b"chunked" in line:
            return body.endswith(b"0\r\n\r\n")
    return False


async def load(host: str, port: int, body: bytes, num_clients: int, duration_s: float) -> Load:
    """Load a server's ``POST /predict``.

    Args:
        host: its address.
        port: its port.
        body: what every request holds.
        num_clients: how many requests are on their way at any time.
        duration_s: for how long.
    """
    head = f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    latencies: list[float] = []
    errors: list[bytes] = []
    loop, started = asyncio.get_running_loop(), time.perf_counter()
    clients = [_Client(request, latencies, errors, started + duration_s) for _ in range(num_clients)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, host, port)  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - started
    p50, p99 = np.percentile(latencies or [float("nan")], [50, 99]) * 1000
    return Load(len(latencies) / took, float(p50), float(p99), len(errors))


def main() -> None:
    """Load the server of the command line, and print what it did as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    body = arguments.body.read_bytes()
    print(json.dumps(uvloop.run(load("127.0.0.1", arguments.port, body, arguments.clients, arguments.seconds))))


if __name__ == "__main__":
    main()
