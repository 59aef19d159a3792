"""The same classifier in a process of its own, served by FastAPI under uvicorn, LitServe, or Ray Serve."""

import argparse
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch

from air_tutorials.cluster import local_cluster
from air_tutorials.image_api import make_image_api
from air_tutorials.models import Net
from air_tutorials.server import start_server
from air_tutorials.serving import make_deployment
from air_tutorials.torch_predictor import PREDICTIONS, TorchPredictor

SHAPE, CLASSES = (3, 32, 32), [f"class {number}" for number in range(10)]
MAX_BATCH_SIZE, BATCH_WAIT_TIMEOUT_S, MAX_IMAGES = 64, 0.001, 64


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", choices=["fastapi", "litserve", "ray"])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    servers = {"fastapi": serve_with_fastapi, "litserve": serve_with_litserve, "ray": serve_with_ray}
    servers[arguments.server](arguments.weights, arguments.port)


def make_plain_app(weights: Path) -> Any:
    """Make the app with the same checks of a request as ours, and the model in the process that reads it."""
    predictor = TorchPredictor(weights, Net, device="cpu")

    async def classify(images: np.ndarray) -> np.ndarray:
        return probabilities(predictor, images)

    return make_image_api(classify, input_shape=SHAPE, classes=CLASSES)


def probabilities(predictor: TorchPredictor, images: np.ndarray) -> np.ndarray:
    """Predict images, float32 (images, 3, 32, 32), in one pass."""
    return torch.from_numpy(predictor({"image": images})[PREDICTIONS]).softmax(dim=1).numpy()


def serve_with_fastapi(weights: Path, port: int) -> None:
    """Serve with uvicorn on uvloop, in one process."""
    import uvicorn

    uvicorn.run(make_plain_app(weights), host="127.0.0.1", port=port, log_level="error", loop="uvloop")


def serve_with_litserve(weights: Path, port: int) -> None:
    """Serve with LitServe: one worker, batches as large and as long awaited as ours."""
    import litserve

    from benchmarks.litserve_api import Api

    api = Api(weights, max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_WAIT_TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False, num_api_servers=1)


def serve_with_ray(weights: Path, port: int) -> None:
    """Serve with Ray Serve as page 2 does, on a Ray of its own."""
    local_cluster(num_cpus=2)
    deployment = make_deployment(
        weights,
        Net,
        input_shape=SHAPE,
        classes=CLASSES,
        max_batch_size=MAX_BATCH_SIZE,
        batch_wait_timeout_s=BATCH_WAIT_TIMEOUT_S,
        max_images=MAX_IMAGES,
    )
    start_server(deployment, port=port)
    signal.pause()


if __name__ == "__main__":
    main()
