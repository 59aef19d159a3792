"""The classifier for LitServe, in a module of its own: LitServe's workers import it."""

from pathlib import Path
from typing import Any

import litserve
import numpy as np
import torch

from air_tutorials.image_api import _answer, _body_type
from air_tutorials.models import Net
from air_tutorials.torch_predictor import TorchPredictor
from benchmarks.serve_peer import CLASSES, MAX_IMAGES, SHAPE, probabilities


class Api(litserve.LitAPI):
    """Checks a request as ours does, predicts several in one pass, and answers the same.

    Args:
        weights: a checkpoint of ``Net``.
        options: of LitServe: the size of a batch, and how long it waits.
    """

    def __init__(self, weights: Path, **options: Any) -> None:
        super().__init__(**options)
        self.weights = weights

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        torch.set_num_threads(1)
        self.predictor = TorchPredictor(self.weights, Net, device=device)
        self.body_type: Any = _body_type(SHAPE, MAX_IMAGES)

    def decode_request(self, request: dict[str, Any], **_: Any) -> np.ndarray:
        """Check a request, and return its image: float32 (3, 32, 32)."""
        return np.array(self.body_type.model_validate(request).array, np.float32)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Put the images of several requests together."""
        return np.stack(inputs)

    def predict(self, x: np.ndarray, **_: Any) -> np.ndarray:
        """Return probabilities, float32 (images, classes)."""
        return probabilities(self.predictor, x)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Take them apart again."""
        return list(output[:, np.newaxis])

    def encode_response(self, output: np.ndarray, **_: Any) -> dict[str, Any]:
        """Answer as ours does."""
        return _answer(output, CLASSES)
