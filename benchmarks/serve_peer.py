"""The same classifier without Ray Serve: a FastAPI app under uvicorn, or LitServe. Run as a process of its own."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from air_tutorials.image_api import make_image_api
from air_tutorials.models import Net
from air_tutorials.torch_predictor import PREDICTIONS, TorchPredictor

SHAPE, CLASSES = (3, 32, 32), [f"class {number}" for number in range(10)]
MAX_BATCH_SIZE, BATCH_WAIT_TIMEOUT_S, MAX_IMAGES = 64, 0.005, 64


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", choices=["fastapi", "litserve"])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    {"fastapi": serve_with_fastapi, "litserve": serve_with_litserve}[arguments.server](
        arguments.weights, arguments.port
    )


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


if __name__ == "__main__":
    main()
