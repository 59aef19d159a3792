"""What the tests of a served model share: requests over real HTTP, and the processes behind them."""

import asyncio
import json
import socket
from collections.abc import Callable

import aiohttp
import numpy as np
import psutil

SHAPE, CLASSES = (3, 32, 32), [f"class {number}" for number in range(10)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def assert_right(predictions: list[dict], expected: np.ndarray) -> None:
    assert len(predictions) == len(expected)
    for prediction, probabilities in zip(predictions, expected, strict=True):
        assert prediction["class"] == probabilities.argmax()
        assert prediction["name"] == CLASSES[probabilities.argmax()]
        np.testing.assert_allclose(prediction["probabilities"], probabilities, atol=1e-6)


async def send_all(url: str, bodies: list[bytes], at_once: int, retries: int = 0) -> list[tuple[int, bytes]]:
    """Post every body, so many at a time; return status and answer of each, with status 0 for a broken connection."""
    limit = asyncio.Semaphore(at_once)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:

        async def send(body: bytes) -> tuple[int, bytes]:
            async with limit:
                for _ in range(retries + 1):
                    try:
                        async with session.post(f"{url}/predict", data=body) as response:
                            answer = response.status, await response.read()
                    except aiohttp.ClientError as error:
                        answer = 0, str(error).encode()
                    if 0 < answer[0] < 500:
                        break
                return answer

        return await asyncio.gather(*map(send, bodies))


def body_of(image: np.ndarray) -> bytes:
    return json.dumps({"array": image.tolist()}).encode()


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.1)

    asyncio.run(asyncio.wait_for(poll(), timeout_s))


def serve_processes() -> dict[int, str]:
    """What this process's Ray runs for Serve."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            name = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if name.startswith("ray::") and any(part in name for part in ("Serve", "Proxy", "Replica")):
            found[process.pid] = name
    return found


def replica_pids() -> list[int]:
    return sorted(pid for pid, name in serve_processes().items() if "Replica" in name)
