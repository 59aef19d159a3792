"""Requests over HTTP: Ray Serve against FastAPI under uvicorn, and against LitServe, with one client and with 64."""

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch

from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.cluster import local_cluster
from air_tutorials.models import Net
from air_tutorials.server import start_server, stop_server
from air_tutorials.serving import make_deployment
from benchmarks.load import Load
from benchmarks.measure import Curve, Row, Settings, alternate, python
from benchmarks.serve_peer import BATCH_WAIT_TIMEOUT_S, CLASSES, MAX_BATCH_SIZE, MAX_IMAGES, SHAPE

OURS, FASTAPI, LITSERVE = "Ray Serve", "FastAPI under uvicorn", "LitServe"


def measure(settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Load three servers in turns; all of them run, and two of them wait."""
    local_cluster(num_cpus=2)
    duration_s = settings.pick(3.0, 0.5)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        root = Path(directory)
        weights = save_weights(root)
        body = root / "body.json"
        image = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32)
        body.write_text(json.dumps({"array": image.tolist()}))
        ports = {OURS: stack.enter_context(our_server(weights))}
        ports[FASTAPI] = stack.enter_context(peer_server("fastapi", weights))
        ports[LITSERVE] = stack.enter_context(peer_server("litserve", weights))
        answers = {name: ask(port, body.read_bytes()) for name, port in ports.items()}
        check_same_answers(answers)
        rows = []
        for clients in (1, 64):
            contenders = {
                f"{name}, {clients} clients": lambda port=port, n=clients: run_load(port, body, n, duration_s)
                for name, port in ports.items()
            }
            alternate(contenders, 1, _show)  # the first answers of a server are slow
            runs = alternate(contenders, settings.pairs, _show).values()
            rows += _rows(clients, *runs, duration_s=duration_s, body_bytes=body.stat().st_size)
    return rows, []


def save_weights(root: Path) -> Path:
    """Save page 2's model, untrained: what it answers does not matter here."""
    torch.manual_seed(0)
    return save_checkpoint(root / "net", Net())


@contextmanager
def our_server(weights: Path) -> Iterator[int]:
    """Serve with Ray Serve as page 2 does, and yield the port."""
    deployment = make_deployment(
        weights,
        Net,
        input_shape=SHAPE,
        classes=CLASSES,
        max_batch_size=MAX_BATCH_SIZE,
        batch_wait_timeout_s=BATCH_WAIT_TIMEOUT_S,
        max_images=MAX_IMAGES,
    )
    port = free_port()
    start_server(deployment, port=port)
    try:
        yield port
    finally:
        stop_server()


@contextmanager
def peer_server(name: str, weights: Path) -> Iterator[int]:
    """Serve with ``serve_peer.py``, and yield the port as soon as it answers."""
    port = free_port()
    command, where = python("-m", "benchmarks.serve_peer", name, f"--weights={weights}", f"--port={port}")
    # A group of its own, so that LitServe's own processes end with it.
    with (weights.parent / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **where)
    try:
        wait_for(port, process, weights.parent / f"{name}.log")
        yield port
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def wait_for(port: int, process: subprocess.Popen, log: Path, timeout_s: float = 120.0) -> None:
    """Wait until something listens at a port, and fail when the process that should has ended."""
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing answers at port {port}: {log.read_text()[-2000:]}")


def free_port() -> int:
    """Find a port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port: int, body: bytes) -> dict:
    """Send one request, and return the answer; a server that has just started may need a moment."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise
            time.sleep(0.2)
    raise AssertionError(f"the server at port {port} gives no answer")


def check_same_answers(answers: dict[str, dict]) -> None:
    """Make sure that every server says the same of the same image."""
    (first, *others) = [answer["predictions"][0] for answer in answers.values()]
    for other in others:
        assert other["class"] == first["class"], answers
        np.testing.assert_allclose(other["probabilities"], first["probabilities"], atol=1e-5)


def run_load(port: int, body: Path, num_clients: int, duration_s: float) -> Load:
    """Load a server from a process of its own."""
    arguments = [f"--port={port}", f"--body={body}", f"--clients={num_clients}", f"--seconds={duration_s}"]
    command, where = python("-m", "benchmarks.load", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, **where)
    assert done.returncode == 0, done.stderr
    load = Load(*json.loads(done.stdout))
    assert load.num_errors == 0, f"{load.num_errors} requests failed"
    return load


def _rows(
    clients: int, ours: list[Load], fastapi: list[Load], litserve: list[Load], duration_s: float, body_bytes: int
) -> list[Row]:
    who = f"{clients} client{'s' * (clients > 1)}"
    note = (
        f"{duration_s:g} s of `POST /predict` with an image of {body_bytes / 1000:.0f} kB as JSON; the same checks, "
        "model and answers, and one thread for the model, on the cores that the clients use as well."
    )
    rows = []
    for peer, theirs in ((FASTAPI, fastapi), (LITSERVE, litserve)):
        speeds = [[load.requests_per_s for load in loads] for loads in (ours, theirs)]
        goal = 1.4 if clients > 1 else None
        rows.append(Row(f"HTTP requests, {who}", peer, "requests/s", *speeds, at_least=goal, note=note))
        tails = [[load.p99_ms for load in loads] for loads in (ours, theirs)]
        rows.append(Row(f"HTTP p99, {who}", peer, "ms", *tails, at_most=1.0))
    return rows


def _show(load: Load) -> str:
    return f"{load.requests_per_s:,.0f}/s, p99 {load.p99_ms:.1f} ms"
