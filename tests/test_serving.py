"""A served model over real HTTP: right alone and under load, and clear when asked wrongly."""

import asyncio
import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import torch
from served import CLASSES, SHAPE, assert_right, body_of, free_port, send_all

from air_tutorials.errors import CheckpointMismatchError, ConfigError, PreflightError
from air_tutorials.models import Net
from air_tutorials.server import Server, start_server, stop_server
from air_tutorials.serving import make_deployment

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def server(cluster: object, net_checkpoint: Path) -> Iterator[Server]:
    # A client that shares two cores with the replica sends slowly: it waits a little longer for a batch.
    application = make_deployment(net_checkpoint, Net, input_shape=SHAPE, classes=CLASSES, batch_wait_timeout_s=0.02)
    yield start_server(application, port=free_port())
    stop_server()


def test_answers_equal_plain_pytorch_alone_together_and_at_once(server, net_images, net_probabilities):
    alone = requests.post(f"{server.url}/predict", json={"array": net_images[0].tolist()})
    assert_right(alone.json()["predictions"], net_probabilities[:1])
    together = requests.post(f"{server.url}/predict", json={"array": net_images[:64].tolist()})
    assert_right(together.json()["predictions"], net_probabilities[:64])

    before = Counter(server.handle.batch_sizes.remote().result())
    answers = asyncio.run(send_all(server.url, [body_of(image) for image in net_images], at_once=100))
    assert {status for status, _ in answers} == {200}
    assert_right([json.loads(answer)["predictions"][0] for _, answer in answers], net_probabilities)
    batches = Counter(server.handle.batch_sizes.remote().result())
    batches.subtract(before)
    assert sum(size * count for size, count in batches.items()) == len(net_images)
    # What arrives at once is predicted at once: far fewer passes than requests.
    assert sum(batches.values()) <= len(net_images) // 2


def test_curl_gets_an_answer(server, net_images, net_probabilities, tmp_path):
    (tmp_path / "image.json").write_bytes(body_of(net_images[3]))
    command = ["curl", "--silent", "--data", "@image.json", f"{server.url}/predict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert_right(json.loads(done.stdout)["predictions"], net_probabilities[3:4])
    assert requests.get(f"{server.url}/healthz").json() == {"status": "ok"}


def test_bad_requests_get_a_4xx(server):
    for body, status in [(b"{", 422), (b'{"array": [1]}', 422), (b"[" * 7_000_000, 413)]:
        answer = requests.post(f"{server.url}/predict", data=body)
        assert answer.status_code == status
        assert answer.json()["detail"]
    assert requests.get(f"{server.url}/predict").status_code == 405
    assert requests.get(f"{server.url}/model").status_code == 404


def test_ten_thousand_mixed_requests(server, net_images, net_probabilities):
    good = [body_of(image) for image in net_images]
    bad = [b"", b"{", b'{"array": NaN}', b'{"array": []}', b'{"net_images": []}', b"\xff\xfe", b'{"array": [[["1"]]]}']
    random.seed(0)
    picks = [random.randrange(len(good)) if random.random() < 0.8 else None for _ in range(10_000)]
    bodies = [random.choice(bad) if pick is None else good[pick] for pick in picks]
    answers = asyncio.run(send_all(server.url, bodies, at_once=64))
    for pick, (status, answer) in zip(picks, answers, strict=True):
        assert status == (422 if pick is None else 200)
        if pick is not None:
            assert_right(json.loads(answer)["predictions"], net_probabilities[pick : pick + 1])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"model_factory": lambda: Net(l1=64)}, CheckpointMismatchError, "fc1.weight"),
        ({"input_shape": (1, 28, 28)}, ConfigError, r"\(1, 28, 28\)"),
        ({"classes": ["cat", "dog"]}, ConfigError, r"\(1, 10\).*\(1, 2\)"),
        ({"max_batch_size": 0}, ConfigError, "max_batch_size 0"),
        ({"max_images": 0}, ConfigError, "max_images is 0"),
        ({"batch_wait_timeout_s": -1}, ConfigError, "batch_wait_timeout_s -1"),
        ({"num_replicas": 9}, PreflightError, "9 workers"),
        ({"use_gpu": True}, PreflightError, "GPU"),
    ],
)
def test_what_a_replica_would_fail_at_is_refused_before(change, error, says, net_checkpoint):
    arguments = {"checkpoint": net_checkpoint, "model_factory": Net, "input_shape": SHAPE, "classes": CLASSES, **change}
    if torch.cuda.is_available() and "use_gpu" in change:
        pytest.skip("this machine has a GPU to give")
    with pytest.raises(error, match=says):
        make_deployment(arguments.pop("checkpoint"), arguments.pop("model_factory"), **arguments)
