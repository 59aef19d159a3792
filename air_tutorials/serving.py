"""A trained classifier behind HTTP, for Ray Serve: requests that come at once are predicted as one batch."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig
from torch import nn

from air_tutorials.checkpoints import Source, load_weights
from air_tutorials.errors import ConfigError
from air_tutorials.image_api import make_image_api
from air_tutorials.preflight import check_workers_fit
from air_tutorials.torch_predictor import PREDICTIONS, TorchPredictor

# Serve tells of each request and each change of its own; exceptions of a replica are still logged.
QUIET = LoggingConfig(log_level="ERROR", enable_access_log=False)


@serve.deployment(name="Predictor", logging_config=QUIET)
@serve.ingress()
class PredictorDeployment:
    """A Serve deployment of one model: ``POST /predict``, ``GET /healthz``, ``GET /openapi.json``.

    ``make_deployment`` checks its arguments and binds it; each replica then makes one of these.

    Args:
        checkpoint: whatever ``load_weights`` takes. Every node on which a replica may run must be able to read it.
        model_factory: builds the model that the checkpoint was saved from. It returns logits (batch, classes).
        input_shape: shape of one image.
        classes: the names, in the order of the model's outputs.
        max_batch_size: how many requests are predicted at once, at most.
        batch_wait_timeout_s: how long the first request of a batch waits for others, in seconds.
        max_images: how many images one request may hold.
        max_body_bytes: how long a body may be, in bytes.
        device: where the model runs, ``"cpu"`` or ``"cuda"``.
    """

    def __init__(
        self,
        checkpoint: Source,
        model_factory: Callable[[], nn.Module],
        *,
        input_shape: Sequence[int],
        classes: Sequence[str],
        max_batch_size: int,
        batch_wait_timeout_s: float,
        max_images: int,
        max_body_bytes: int | None,
        device: str,
    ) -> None:
        # Named, since a process that asked Ray for no GPU may see those of the machine all the same.
        self._predictor = TorchPredictor(checkpoint, model_factory, device=device)
        self._batch_sizes: Counter[int] = Counter()
        self._api = make_image_api(
            self._classify,
            input_shape=input_shape,
            classes=classes,
            max_images=max_images,
            max_body_bytes=max_body_bytes,
        )
        self._classify.set_max_batch_size(max_batch_size)
        self._classify.set_batch_wait_timeout_s(batch_wait_timeout_s)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the interface of this replica; Ray Serve asks for it."""
        return self._api

    def batch_sizes(self) -> dict[int, int]:
        """Tell how often this replica predicted so many requests in one pass: ``{1: 20, 64: 3}``."""
        return dict(self._batch_sizes)

    @serve.batch
    async def _classify(self, requests: list[np.ndarray]) -> list[np.ndarray]:
        """Predict the images of several requests in one pass, off the loop that reads the next requests."""
        self._batch_sizes[len(requests)] += 1
        probabilities = await asyncio.to_thread(self._probabilities, np.concatenate(requests))
        return np.split(probabilities, np.cumsum([len(images) for images in requests])[:-1])

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        logits = self._predictor({"image": images})[PREDICTIONS]
        return torch.from_numpy(logits).softmax(dim=1).numpy()


def make_deployment(
    checkpoint: Source,
    model_factory: Callable[[], nn.Module],
    *,
    input_shape: Sequence[int],
    classes: Sequence[str],
    num_replicas: int = 1,
    num_cpus_per_replica: float = 1,
    use_gpu: bool = False,
    max_batch_size: int = 64,
    batch_wait_timeout_s: float = 0.001,
    max_images: int = 64,
    max_body_bytes: int | None = None,
) -> Application:
    """Make a deployment after trying here, in this process, what would otherwise fail in a replica.

    Args:
        checkpoint: whatever ``load_weights`` takes. Every node on which a replica may run must be able to read it.
        model_factory: builds the model that the checkpoint was saved from. It returns logits (batch, classes).
        input_shape: shape of one image, such as (3, 32, 32).
        classes: the names, in the order of the model's outputs.
        num_replicas: processes that share the requests, each with a model of its own.
        num_cpus_per_replica: CPUs that each reserves.
        use_gpu: give each replica a GPU.
        max_batch_size: how many requests are predicted in one pass, at most; each may hold ``max_images``.
        batch_wait_timeout_s: how long the first request of a batch waits for others, in seconds.
        max_images: how many images one request may hold.
        max_body_bytes: how long a body may be, in bytes; left out, enough for ``max_images``.

    Returns:
        An application for ``server.start_server`` or ``ray.serve.run``.

    Raises:
        CheckpointError: see ``load_weights``.
        ConfigError: a setting is out of range, or the model does not take such images or has not so many outputs.
        PreflightError: the replicas do not fit into the cluster.
        ClusterError: Ray is not running; call ``local_cluster()`` first.
    """
    if min(num_replicas, max_batch_size) < 1 or not 0 <= batch_wait_timeout_s < math.inf:
        raise ConfigError(
            f"num_replicas is {num_replicas}, max_batch_size {max_batch_size} and batch_wait_timeout_s "
            f"{batch_wait_timeout_s}: the first two must be at least 1, and the last 0 or a few milliseconds."
        )
    limits = {"max_images": max_images, "max_body_bytes": max_body_bytes}
    make_image_api(_unused, input_shape=input_shape, classes=classes, **limits)  # type: ignore[arg-type]
    _try_model(load_weights(checkpoint, model_factory()), tuple(input_shape), classes)
    check_workers_fit(num_replicas, {"CPU": num_cpus_per_replica, "GPU": int(use_gpu)})
    source = checkpoint if hasattr(checkpoint, "as_directory") else str(Path(checkpoint).absolute())
    return PredictorDeployment.options(  # type: ignore[attr-defined]
        num_replicas=num_replicas,
        ray_actor_options={"num_cpus": num_cpus_per_replica, "num_gpus": int(use_gpu)},
        # While one batch is predicted the next one gathers: with less than twice the size it could never fill.
        max_ongoing_requests=2 * max_batch_size,
        health_check_period_s=2,
    ).bind(
        source,
        model_factory,
        input_shape=tuple(input_shape),
        classes=list(classes),
        max_batch_size=max_batch_size,
        batch_wait_timeout_s=batch_wait_timeout_s,
        **limits,
        device="cuda" if use_gpu else "cpu",
    )


async def _unused(_images: np.ndarray) -> np.ndarray:
    raise NotImplementedError


def _try_model(model: nn.Module, input_shape: tuple[int, ...], classes: Sequence[str]) -> None:
    model.eval()
    try:
        with torch.inference_mode():
            outputs: Any = model(torch.zeros(1, *input_shape))
    except Exception as error:
        raise ConfigError(
            f"The model takes no image of shape {input_shape}: {error}. Set input_shape to what it was trained with."
        ) from error
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if shape != (1, len(classes)):
        raise ConfigError(
            f"For one image the model returns {shape}, and must return (1, {len(classes)}): a logit for each of "
            f"the {len(classes)} classes. Name as many classes as it has outputs."
        )
