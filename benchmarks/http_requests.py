"""Requests over HTTP: Ray Serve against FastAPI under uvicorn, and against LitServe, with one client and with 64."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.models import Net
from benchmarks.load import Load
from benchmarks.measure import Curve, Row, Settings, alternate, python
from benchmarks.serve_peer import SHAPE

OURS, HAPROXY, FASTAPI, LITSERVE = "Ray Serve", "Ray Serve behind HAProxy", "FastAPI under uvicorn", "LitServe"
# How each is started: what ``serve_peer.py`` calls it, and what is put into its environment.
SERVERS: dict[str, tuple[str, dict[str, str]]] = {
    OURS: ("ray", {"RAY_SERVE_ENABLE_HA_PROXY": "0"}),
    HAPROXY: ("ray", {"RAY_SERVE_ENABLE_HA_PROXY": "1"}),
    FASTAPI: ("fastapi", {}),
    LITSERVE: ("litserve", {}),
}

_HAPROXY_NOTE = "The same deployment, with `RAY_SERVE_ENABLE_HA_PROXY=1` in the environment before Ray starts."


def measure(settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Load four servers in turns; all of them run, and three of them wait."""
    duration_s = settings.pick(1.0, 0.5)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        root = Path(directory)
        weights = save_weights(root)
        body = root / "body.json"
        image = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32)
        body.write_text(json.dumps({"array": image.tolist()}))
        ports = {
            name: stack.enter_context(serve(name_there, weights, environment))
            for name, (name_there, environment) in SERVERS.items()
        }
        answers = {name: ask(port, body.read_bytes()) for name, port in ports.items()}
        check_same_answers(answers)
        rows = []
        for clients in (1, 64):
            contenders = {
                f"{name}, {clients}": lambda port=port, n=clients: run_load(port, body, n, duration_s)
                for name, port in ports.items()
            }
            alternate(contenders, 1, _show)  # the first answers of a server are slow
            runs = alternate(contenders, settings.pairs, _show).values()
            ours, haproxy, *peers = runs
            note = (
                f"{duration_s:g} s of `POST /predict`, an image of {body.stat().st_size / 1000:.0f} kB as JSON. The "
                "same checks, model and answers, and one thread for the model, on the cores that the clients use too. "
                "Of few requests, p99 is nearly the slowest one."
            )
            rows += _rows("HTTP", clients, ours, *peers, note=note)
            rows += _rows("HTTP behind HAProxy", clients, haproxy, *peers, note=_HAPROXY_NOTE)
    return rows, []


def save_weights(root: Path) -> Path:
    """Save page 2's model, untrained: what it answers does not matter here."""
    torch.manual_seed(0)
    return save_checkpoint(root / "net", Net())


@contextmanager
def serve(name: str, weights: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Serve with ``serve_peer.py``, and yield the port as soon as it answers."""
    port = free_port()
    command, where = python("-m", "benchmarks.serve_peer", name, f"--weights={weights}", f"--port={port}")
    mark = {"BENCHMARKED_SERVER": uuid.uuid4().hex}  # whatever it starts inherits it
    where["env"] |= {**environment, **mark}
    log_file = weights.parent / f"{port}.log"
    # A group of its own, so that LitServe's own processes end with it.
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **where)
    try:
        wait_for(port, process, log_file)
        yield port
    finally:
        end_with_all_it_started(process, mark)


def end_with_all_it_started(process: subprocess.Popen, mark: Mapping[str, str]) -> None:
    """End a process with all that it started: HAProxy is in no group of ours, and outlives a Ray that is killed.

    Args:
        process: leads a group of its own.
        mark: what its environment holds and no other's: Ray may start HAProxy anew while it ends.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    ended = time.monotonic()
    while (alive := marked_processes(mark)) and time.monotonic() < ended + 30:
        for child in alive if time.monotonic() > ended + 5 else ():  # Ray's own processes end by themselves
            with suppress(psutil.NoSuchProcess):
                child.kill()
        time.sleep(0.1)
    process.wait(timeout=10)


def marked_processes(mark: Mapping[str, str]) -> list[psutil.Process]:
    """Find the processes whose environment holds these variables."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if mark.items() <= each.environ().items() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


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
            if error.code < 500 and error.code != 404:  # HAProxy listens before it knows where to
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


def _rows(how: str, clients: int, ours: list[Load], fastapi: list[Load], litserve: list[Load], note: str) -> list[Row]:
    who = f"{clients} client{'s' * (clients > 1)}"
    rows = []
    for peer, theirs in ((FASTAPI, fastapi), (LITSERVE, litserve)):
        speeds = [[load.requests_per_s for load in loads] for loads in (ours, theirs)]
        goal = 1.4 if clients > 1 else None
        rows.append(Row(f"{how}, {who}, requests", peer, "requests/s", *speeds, at_least=goal, note=note))
        tails = [[load.p99_ms for load in loads] for loads in (ours, theirs)]
        rows.append(Row(f"{how}, {who}, p99", peer, "ms", *tails, at_most=1.0))
    return rows


def _show(load: Load) -> str:
    return f"{load.requests_per_s:,.0f}/s, p99 {load.p99_ms:.1f} ms"
