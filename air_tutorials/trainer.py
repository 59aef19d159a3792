"""AFTER: the program of ``baseline.py`` on the workers of a Ray cluster, and the trainer that starts it."""

import re
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow.fs
import ray.train
import torch
import torch.distributed
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from air_tutorials.baseline import load_data
from air_tutorials.checkpoints import load_checkpoint, save_checkpoint, unwrap_model
from air_tutorials.cluster import preflight
from air_tutorials.errors import ConfigError, RunNameInUseError
from air_tutorials.loops import Score, ignore_step, test_epoch, train_epoch
from air_tutorials.models import NeuralNetwork


def train_func(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Train a classifier on this worker, in step with the other workers of the run.

    Args:
        config: as in ``baseline.train_func``, without ``save_to``. ``batch_size`` counts the images of all workers.

    Returns:
        The metrics of each epoch that this worker trained, over the data of all workers: what it reported to Ray.
    """
    batch_size = config["batch_size"]
    batch_size_per_worker = batch_size // ray.train.get_context().get_world_size()
    seed, shuffle = config.get("seed", 0), config.get("shuffle", False)
    torch.manual_seed(seed)

    training_data, test_data = config.get("load_data", load_data)()
    train_dataloader = DataLoader(training_data, batch_size=batch_size_per_worker, shuffle=shuffle)
    train_dataloader = prepare_data_loader(train_dataloader)
    test_dataloader = DataLoader(shard_without_padding(test_data), batch_size=batch_size_per_worker)

    model = prepare_model(config.get("make_model", NeuralNetwork)())
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    on_step = config.get("on_step", ignore_step)

    history = []
    for epoch in range(resume(model, optimizer), config["epochs"]):
        seed_epoch(train_dataloader, seed, epoch)
        train_loss = train_epoch(train_dataloader, model, loss_fn, optimizer, partial(on_step, epoch))
        score = test_epoch(test_dataloader, unwrap_model(model), loss_fn)
        train_loss, score = reduce_over_workers(train_loss, score)
        metrics = {"epoch": epoch, "train_loss": train_loss, "loss": score.loss, "accuracy": score.accuracy}
        history.append(metrics | {"num_correct": score.num_correct, "num_samples": score.num_samples})
        report(history[-1], model, optimizer, next_epoch=epoch + 1)
    return history


def shard_without_padding(dataset: Dataset) -> Dataset:
    """Return this worker's share of a test set: every sample goes to exactly one worker, and none is repeated.

    ``DistributedSampler`` repeats samples until every worker has equally many, and so counts some of them twice. That
    is right for training, where workers must take equally many steps, and wrong for a score.
    """
    context = ray.train.get_context()
    return Subset(dataset, range(context.get_world_rank(), len(dataset), context.get_world_size()))  # type: ignore[arg-type]


def resume(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the run's latest checkpoint, if there is one, and return the epoch to go on with.

    Ray hands a checkpoint over when it has replaced workers that died, and when a run is started again by its name.
    """
    checkpoint = ray.train.get_checkpoint()
    return load_checkpoint(checkpoint, model, optimizer) if checkpoint else 0


def seed_epoch(dataloader: DataLoader, seed: int, epoch: int) -> None:
    """Let the order of the data and every random number depend on seed, epoch and rank alone.

    A run that resumes at an epoch then draws what an uninterrupted one draws, and no random state needs saving.
    ``DistributedSampler`` shuffles every epoch alike unless it is told the epoch.

    Args:
        dataloader: what ``prepare_data_loader`` returned.
        seed: of the run, 0 or more, the same on every worker.
        epoch: counted from 0.
    """
    if isinstance(dataloader.sampler, DistributedSampler):
        dataloader.sampler.set_epoch(1_000_000 * seed + epoch)
    # Workers that drew the same numbers would drop the same units out. The generator of the CPU looks at 32 bits of a
    # seed, and so the three numbers are mixed into as many.
    rank = ray.train.get_context().get_world_rank()
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0]))


def reduce_over_workers(train_loss: float, score: Score) -> tuple[float, Score]:
    """Combine what every worker saw: the mean of their training losses, the sums of their scores.

    The scores are summed by count: the mean of the workers' accuracies is wrong as soon as their shares differ in size.
    """
    world_size = ray.train.get_context().get_world_size()
    if world_size == 1:
        return train_loss, score
    sums = torch.tensor([train_loss / world_size, *score], dtype=torch.float64, device=ray.train.torch.get_device())
    torch.distributed.all_reduce(sums)
    mean_train_loss, loss_sum, num_correct, num_samples = sums.tolist()
    return mean_train_loss, Score(loss_sum, int(num_correct), int(num_samples))


def report(metrics: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, next_epoch: int) -> None:
    """Report metrics with a checkpoint: rank 0 saves, and every rank reports, since Ray waits for all of them.

    Args:
        metrics: of all workers, and alike on each.
        model: saved without its wrappers.
        optimizer: saved beside it, so that a resumed run takes the same steps.
        next_epoch: the epoch to go on with after a crash, counted from 0.
    """
    checkpoint = None
    if ray.train.get_context().get_world_rank() == 0:
        directory = save_checkpoint(tempfile.mkdtemp(), model, optimizer, next_epoch)
        checkpoint = ray.train.Checkpoint.from_directory(str(directory))
    ray.train.report(metrics, checkpoint=checkpoint, delete_local_checkpoint_after_upload=True)


def make_trainer(
    train_func: Callable[[dict[str, Any]], Any],
    *,
    train_loop_config: dict[str, Any],
    scaling_config: ray.train.ScalingConfig,
    run_config: ray.train.RunConfig | None = None,
    datasets: dict[str, Any] | None = None,
    resume: bool = False,
) -> TorchTrainer:
    """Make a ``TorchTrainer`` after checking what would otherwise hang, fail late, or silently train nothing.

    Args:
        train_func: what each worker runs.
        train_loop_config: its argument; ``batch_size``, ``epochs`` and ``lr`` are checked where they are given.
        scaling_config: number of workers and what each needs. 0 workers run in this process, for debugging.
        run_config: name, storage path, what to do on failures. A run without a name gets one of its own.
        datasets: Ray Datasets by name, for ``ray.train.get_dataset_shard``.
        resume: go on with the run of that name instead of refusing it.

    Raises:
        ConfigError: a setting is out of range; the message says which values serve.
        PreflightError: the cluster can never run this; ask for less, or for another batch size.
        RunNameInUseError: the storage path holds a run of that name; take another, or ``resume=True``.
    """
    _check_config(train_loop_config)
    run_config = run_config or ray.train.RunConfig()
    # With a filesystem of its own, the path is that one's.
    storage_path = None if run_config.storage_filesystem else run_config.storage_path
    preflight(scaling_config, batch_size=train_loop_config.get("batch_size"), storage_path=storage_path)
    if not resume:
        run_config = _name_run(run_config)
        _refuse_used_name(run_config)
    return TorchTrainer(
        train_func,
        train_loop_config=train_loop_config,
        scaling_config=scaling_config,
        run_config=run_config,
        datasets=datasets,
    )


def _check_config(config: dict[str, Any]) -> None:
    for name in ("batch_size", "epochs"):
        value = config.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name}={value!r} is no whole number of at least 1. Set it to 1 or more.")
    lr = config.get("lr", 1.0)
    if not isinstance(lr, int | float) or not 0 < lr < float("inf"):
        raise ConfigError(f"lr={lr!r} is no number above 0. For plain SGD, start at 0.1 or 0.01.")


def _name_run(run_config: ray.train.RunConfig) -> ray.train.RunConfig:
    # Ray's own name holds the second of the start, and two runs in one second would be taken for one.
    if re.fullmatch(r"ray_train_run-[\d_-]+", run_config.name):
        return replace(run_config, name=f"{run_config.name}-n{uuid.uuid4().hex[:6]}")
    return run_config


def _refuse_used_name(run_config: ray.train.RunConfig) -> None:
    filesystem, path = run_config.storage_filesystem, run_config.storage_path
    if filesystem is None:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(path)
    if filesystem.get_file_info(f"{path}/{run_config.name}").type != pyarrow.fs.FileType.NotFound:
        raise RunNameInUseError(
            f"The storage path already holds a run named {run_config.name!r}. Ray would resume it and train only the "
            "epochs that it lacks, perhaps none. Take another name, or pass resume=True to go on with it."
        )
