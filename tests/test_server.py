"""Serving starts once, comes back after a kill, leaves others alone, and nothing of it is left when it was stopped."""

import asyncio
import importlib
import json
import os
import signal
import socket
from collections import Counter
from contextlib import suppress

import numpy as np
import psutil
import pytest
import ray
import requests
import schemathesis
import torch
from hypothesis import given, settings
from programs import make_small_classifier
from ray import serve
from served import CLASSES, SHAPE, assert_right, body_of, free_port, replica_pids, send_all, serve_processes, wait_until

from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.errors import ClusterError, ConfigError, PortInUseError
from air_tutorials.models import Net
from air_tutorials.server import start_server, stop_server
from air_tutorials.serving import make_deployment

pytestmark = pytest.mark.usefixtures("cluster")


def test_a_killed_replica_is_replaced_and_one_retry_hides_it(cluster, net_checkpoint, net_images, net_probabilities):
    application = make_deployment(
        net_checkpoint, Net, input_shape=SHAPE, classes=CLASSES, num_replicas=2, num_cpus_per_replica=0.5
    )
    server = start_server(application, port=free_port())
    bodies = [body_of(image) for image in net_images] * 20

    async def load_and_kill() -> list[tuple[int, bytes]]:
        load = asyncio.create_task(send_all(server.url, bodies, at_once=16, retries=1))
        await asyncio.sleep(0.5)
        os.kill(replica_pids()[0], signal.SIGKILL)
        return await load

    before = replica_pids()
    answers = asyncio.run(load_and_kill())
    assert Counter(status for status, _ in answers) == {200: len(bodies)}
    for number, (_, answer) in enumerate(answers):
        assert_right(json.loads(answer)["predictions"], net_probabilities[number % 100 :][:1])
    wait_until(lambda: len(replica_pids()) == 2 and replica_pids() != before)
    stop_server()


def test_starting_again_replaces_and_stopping_leaves_nothing(cluster, net_checkpoint, tmp_path):
    port = free_port()
    names = [f"kind {number}" for number in range(10)]
    first = make_deployment(net_checkpoint, Net, input_shape=SHAPE, classes=CLASSES)
    second = make_deployment(net_checkpoint, Net, input_shape=SHAPE, classes=names)
    url = start_server(first, port=port).url
    assert start_server(second, port=port).url == url
    answer = requests.post(f"{url}/predict", json={"array": np.zeros(SHAPE).tolist()})
    assert answer.json()["predictions"][0]["name"] in names

    moved = start_server(second, port=free_port())
    assert requests.get(f"{moved.url}/healthz").status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/healthz")

    stop_server()
    stop_server()  # nothing is left to stop, and that is no error
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{moved.url}/healthz")
    wait_until(lambda: serve_processes() == {})


def test_it_starts_again_when_another_program_has_ended_it(cluster, net_checkpoint):
    application = make_deployment(net_checkpoint, Net, input_shape=SHAPE, classes=CLASSES)
    server = start_server(application, port=free_port())
    # What serve.shutdown() of another program does: the client of this one hears nothing of it.
    controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    with suppress(ray.exceptions.ActorDiedError):  # its last act
        ray.get(controller.graceful_shutdown.remote())
    wait_until(lambda: serve_processes() == {})
    stop_server()  # nothing is left to stop
    assert start_server(application, port=int(server.url.rpartition(":")[2])).url == server.url
    assert requests.get(f"{server.url}/healthz").status_code == 200
    stop_server()


def test_only_this_machine_can_reach_it(cluster, net_checkpoint):
    server = start_server(make_deployment(net_checkpoint, Net, input_shape=SHAPE, classes=CLASSES), port=free_port())
    port = int(server.url.rpartition(":")[2])
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    assert listening == {"127.0.0.1"}
    stop_server()


@serve.deployment
class Greeting:
    def __call__(self, _request: object) -> str:
        return "hello"


def test_other_applications_are_left_alone(cluster, net_checkpoint):
    port = free_port()
    serve.start(http_options={"port": port}, logging_config={"log_level": "ERROR"})
    serve.run(Greeting.bind(), name="greeting", route_prefix="/greeting")
    application = make_deployment(net_checkpoint, Net, input_shape=SHAPE, classes=CLASSES)
    with pytest.raises(ClusterError, match=f"127.0.0.1:{port}"):
        start_server(application, port=free_port())
    server = start_server(application, port=port)
    stop_server()
    assert requests.get(f"{server.url}/greeting").text == "hello"
    serve.shutdown()


def test_a_taken_port_is_refused_at_once_with_a_free_one(cluster, net_checkpoint):
    application = make_deployment(net_checkpoint, Net, input_shape=SHAPE, classes=CLASSES)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port}\. .*port=\d+"):
            start_server(application, port=port)
    with pytest.raises(ConfigError, match="70000"):
        start_server(application, port=70000)
    assert serve_processes() == {}


def test_a_replica_that_cannot_start_says_why(cluster, tmp_path, monkeypatch):
    (tmp_path / "of_this_process_only.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(6, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    make = importlib.import_module("of_this_process_only").make
    application = make_deployment(save_checkpoint(tmp_path, make()), make, input_shape=(2, 3), classes=["cat", "dog"])
    with pytest.raises(ClusterError, match="No module named 'of_this_process_only'"):
        start_server(application, port=free_port())
    wait_until(lambda: serve_processes() == {})


def test_over_http_it_keeps_to_its_own_document(cluster, tmp_path):
    torch.manual_seed(0)
    small = save_checkpoint(tmp_path / "small", make_small_classifier())
    application = make_deployment(
        small, make_small_classifier, input_shape=(2, 3), classes=["cat", "dog"], max_body_bytes=1_000_000
    )
    server = start_server(application, port=free_port())
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")

    @given(case=schema.as_strategy())
    @settings(max_examples=200)
    def keeps_to_it(case):
        case.call_and_validate()

    keeps_to_it()
    stop_server()
