"""Run a training function as Ray's workers would, in this process, to see what it computes within a second.

The program and its helpers are the real ones. Only what would go over the network is replaced, by what it computes:
each worker is a thread, of which one runs at a time, until it needs what the others have. A test compares the result
with that of Ray's own workers.
"""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple

import ray.train
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler

from air_tutorials import baseline, trainer
from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.simulation import SimulatedWorkers

_HELPERS = ("resume", "report", "seed_epoch", "reduce_over_workers", "shard_without_padding")


class Run(NamedTuple):
    """What a simulated run left.

    Attributes:
        returned: what ``train_func`` returned, by rank.
        checkpoints: what was reported to Ray, in its order.
        num_saves: how often a worker saved to ``config["save_to"]`` by itself.
    """

    returned: list[Any]
    checkpoints: list[Path]
    num_saves: int


def run_as_workers(
    source: str,
    make_config: Callable[[int], dict[str, Any]],
    num_workers: int,
    storage: Path,
    checkpoint: Path | None = None,
) -> Run:
    """Run the source of a ``train_func`` as several workers.

    Args:
        source: of a function named ``train_func``; it may use what ``baseline`` and ``trainer`` use.
        make_config: the function's argument, for the worker of that rank.
        num_workers: at least 1.
        storage: an empty directory, which takes the checkpoints.
        checkpoint: what Ray hands over to ``resume``.

    Raises:
        ClusterError: the workers would wait for each other for ever.
    """
    workers, checkpoints, saves = SimulatedWorkers(num_workers), list[Path](), list[Any]()

    def report(_metrics: dict[str, Any], checkpoint: Any = None, **_: Any) -> None:
        workers.exchange("report", None)
        if checkpoint is not None:
            moved = shutil.move(checkpoint.path, storage / f"checkpoint_{len(checkpoints)}")
            checkpoints.append(Path(moved))

    def save_itself(directory: Any, *args: Any, **kwargs: Any) -> Any:
        saves.append(directory)
        return save_checkpoint(directory, *args, **kwargs)

    ray_train = SimpleNamespace(
        get_context=lambda: SimpleNamespace(get_world_size=lambda: num_workers, get_world_rank=lambda: workers.rank),
        get_checkpoint=lambda: ray.train.Checkpoint.from_directory(checkpoint) if checkpoint else None,
        report=report,
        Checkpoint=ray.train.Checkpoint,
        torch=SimpleNamespace(get_device=lambda: torch.device("cpu")),
    )
    # The helpers save by the real function; what the program itself saves is counted.
    names = {**_names(workers, ray_train, storage), "save_checkpoint": save_itself}
    exec(compile(source, "<the program>", "exec"), names)  # noqa: S102 (it was put together from this package's source)
    returned = workers.run(lambda rank: names["train_func"](make_config(rank)))
    return Run(returned, checkpoints, len(saves))


def _names(workers: SimulatedWorkers, ray_train: SimpleNamespace, storage: Path) -> dict[str, Any]:
    """Return what the program may use, with what would go over the network replaced, in the helpers, too."""
    replaced = {
        "distributed": SimpleNamespace(all_reduce=partial(_all_reduce, workers)),
        "cuda": SimpleNamespace(is_available=lambda: False),
    }
    is_alone = workers.world_size == 1
    names = {
        **vars(baseline),
        **vars(trainer),
        "ray": SimpleNamespace(train=ray_train),
        "torch": SimpleNamespace(**{**vars(torch), **replaced}),
        "tempfile": SimpleNamespace(mkdtemp=partial(tempfile.mkdtemp, dir=storage)),
        "prepare_model": (lambda model: model) if is_alone else partial(_AveragedModel, workers=workers),
        "prepare_data_loader": partial(_share_rows, workers=workers),
    }
    for name in _HELPERS:
        helper = getattr(trainer, name)
        names[name] = FunctionType(helper.__code__, names, name, helper.__defaults__)
    return names


class _AveragedModel(nn.DataParallel):
    """What ``prepare_model`` returns: like ``DistributedDataParallel``, it averages gradients and shares buffers."""

    def __init__(self, model: nn.Module, workers: SimulatedWorkers) -> None:
        nn.Module.__init__(self)
        self.module, self._workers, self._num_done = model, workers, 0
        self._shares_buffers = True
        self._take_from_first("the exchange of the first weights", list(model.state_dict().values()))
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(self._note_gradient)

    def forward(self, *inputs: Any) -> Any:
        if self._shares_buffers and (buffers := list(self.module.buffers())):
            self._take_from_first("the exchange of the model's buffers", buffers)
        # The first pass of a test shares them, too, and those after it do not.
        self._shares_buffers = torch.is_grad_enabled()
        return self.module(*inputs)

    def _take_from_first(self, what: str, tensors: list[Tensor]) -> None:
        given = self._workers.exchange(what, [tensor.detach().clone() for tensor in tensors])
        with torch.no_grad():
            for tensor, first in zip(tensors, given[0], strict=True):
                tensor.copy_(first)

    def _note_gradient(self, _parameter: Tensor) -> None:
        parameters = list(self.module.parameters())
        self._num_done += 1
        if self._num_done % len(parameters) == 0:
            gradients = [parameter.grad for parameter in parameters]
            given = self._workers.exchange(
                "the exchange of gradients", [each.clone() for each in gradients if each is not None]
            )
            for parameter, of_workers in zip(parameters, zip(*given, strict=True), strict=True):
                parameter.grad = torch.stack(of_workers).mean(dim=0)


def _share_rows(loader: DataLoader, workers: SimulatedWorkers) -> DataLoader:
    """Return what ``prepare_data_loader`` returns: the same loader with a ``DistributedSampler``."""
    if workers.world_size == 1:
        return loader
    shuffle = not isinstance(loader.sampler, SequentialSampler)
    sampler: DistributedSampler = DistributedSampler(loader.dataset, workers.world_size, workers.rank, shuffle=shuffle)
    return DataLoader(loader.dataset, batch_size=loader.batch_size, sampler=sampler)


def _all_reduce(workers: SimulatedWorkers, tensor: Tensor) -> None:
    tensor.copy_(torch.stack(workers.exchange("all_reduce", tensor.clone())).sum(dim=0))
