"""Predict a Ray Dataset with a trained model: one model in each of several workers, rows found again by their id."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import ray
from torch import Tensor, nn

from air_tutorials.checkpoints import Source, load_weights
from air_tutorials.columns import check_columns
from air_tutorials.errors import ConfigError
from air_tutorials.preflight import check_workers_fit, cpus_of_nodes
from air_tutorials.torch_predictor import TorchPredictor, column_names

if TYPE_CHECKING:
    from ray.data import Dataset

# So many blocks for each worker: enough that all finish at about the same time, few enough that a block costs little.
_BLOCKS_PER_WORKER = 4
# Of a dataset whose size is not known before it is read.
_BATCHES_PER_BLOCK = 4
_MAX_BATCHES_PER_BLOCK = 16
# What the steps before hand over at once, for each batch of a block. With Ray's 128 MiB for a block, cutting it took
# memory in proportion to the dataset.
_BYTES_PER_BATCH = 2**20


class BatchPredictor:
    """Predicts Ray Datasets with the weights of one checkpoint; made by ``from_checkpoint``.

    The weights are read once, here, and travel through Ray's object store: other nodes need not see the checkpoint's
    directory, and nothing large is captured in what Ray sends to the actors.
    """

    def __init__(self, weights: Mapping[str, Tensor], model_factory: Callable[[], nn.Module]) -> None:
        self._weights = weights
        self._model_factory = model_factory

    @classmethod
    def from_checkpoint(cls, checkpoint: Source, model_factory: Callable[[], nn.Module]) -> "BatchPredictor":
        """Read a checkpoint, and make sure that it fits the model before anything is started.

        Args:
            checkpoint: a directory or file that ``load_weights`` takes, or a ``ray.train.Checkpoint``.
            model_factory: builds the model that the checkpoint was saved from; a lambda or a closure will do.

        Returns:
            A predictor for as many datasets as you like.

        Raises:
            CheckpointError: see ``load_weights``.
        """
        weights = load_weights(checkpoint, model_factory()).state_dict()
        return cls({name: tensor.detach().cpu() for name, tensor in weights.items()}, model_factory)

    def predict(
        self,
        dataset: "Dataset",
        *,
        feature_columns: str | Iterable[str] = ("image",),
        keep_columns: str | Iterable[str] = (),
        batch_size: int = 1024,
        num_workers: int = 2,
        use_gpu: bool = False,
        num_cpus_per_worker: float = 1,
        batch_format: str = "numpy",
        batches_per_block: int | None = None,
    ) -> "Dataset":
        """Describe the predictions of a dataset; Ray computes them in a stream, and in any order, when they are read.

        Args:
            dataset: holds the columns. If it is not computed yet, its first rows are, to learn their names.
            feature_columns: what the model takes; see ``TorchPredictor``.
            keep_columns: what is passed on, such as an id to join by.
            batch_size: rows that a worker predicts at once, and the fewest that it is given.
            num_workers: actors that share the rows as they come, each with a model of its own.
            use_gpu: give each worker a GPU.
            num_cpus_per_worker: CPUs that each reserves; less than that where no CPU would be left to feed them.
            batch_format: what the workers get, ``"numpy"`` or ``"pandas"``; the result is the same.
            batches_per_block: how many batches travel to a worker together. Left out: at most 16, and few enough that a
                small dataset keeps all workers busy too; 4 where its size is not known before it is read. For a large
                one, 16 saves most of what the way costs.

        Returns:
            The kept columns, and ``predictions``: float32 (…), the model's output for each row.

        Raises:
            PreflightError: the workers do not fit into the cluster; the message has the arithmetic.
            ClusterError: Ray is not running; call ``local_cluster()`` first.
            ColumnError: the dataset lacks a column. A column of the wrong kind shows when the result is read.
            ConfigError: a setting is out of range; the message has the limit.
        """
        features, keep = column_names(feature_columns, keep_columns)
        if batch_size < 1 or num_workers < 1:
            raise ConfigError(f"batch_size is {batch_size} and num_workers {num_workers}: both must be at least 1.")
        if batches_per_block is not None and batches_per_block < 1:
            raise ConfigError(f"batches_per_block is {batches_per_block}, and must be at least 1, or left out.")
        if batch_format not in ("numpy", "pandas"):
            raise ConfigError(f"batch_format is {batch_format!r}, and must be 'numpy' or 'pandas'.")
        check_workers_fit(num_workers, {"CPU": num_cpus_per_worker, "GPU": int(use_gpu)})
        if names := dataset.columns():  # an empty dataset has none
            check_columns(features + keep, names)
        blocks = _spread(dataset, num_workers, batch_size, batches_per_block)
        return self._map(blocks, features, keep, batch_size, batch_format, num_workers, num_cpus_per_worker, use_gpu)

    def _map(
        self,
        dataset: "Dataset",
        feature_columns: tuple[str, ...],
        keep_columns: tuple[str, ...],
        batch_size: int,
        batch_format: str,
        num_workers: int,
        num_cpus: float,
        use_gpu: bool,
    ) -> "Dataset":
        # A dataset of fewer batches than workers is nothing to warn of when it is read.
        warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
        return dataset.map_batches(
            TorchPredictor,
            fn_constructor_kwargs={
                "checkpoint": ray.put(self._weights),
                "model_factory": self._model_factory,
                "feature_columns": feature_columns,
                "keep_columns": keep_columns,
                "device": "cuda" if use_gpu else "cpu",
            },
            batch_size=batch_size,
            batch_format=batch_format,
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            num_cpus=_num_cpus_that_leave_one(num_workers, num_cpus, cpus_of_nodes()),
            num_gpus=int(use_gpu) or None,
            udf_modifying_row_count=False,
        )


def _spread(dataset: "Dataset", num_workers: int, batch_size: int, batches_per_block: int | None) -> "Dataset":
    """Cut a dataset of few blocks into more, as it streams: a block is the least that a worker is given."""
    if isinstance(dataset, ray.data.dataset.MaterializedDataset):
        num_blocks = num_workers * _BLOCKS_PER_WORKER
        if batches_per_block is None and dataset.num_blocks() >= num_blocks:
            return dataset  # a cut costs a copy
        num_batches = math.ceil(dataset.count() / batch_size / num_blocks)
        batches = batches_per_block or max(min(num_batches, _MAX_BATCHES_PER_BLOCK), 1)
    else:
        batches = batches_per_block or _BATCHES_PER_BLOCK
        dataset = ray.data.Dataset.copy(dataset, _deep_copy=True)  # the caller's keeps its own settings
        dataset.context.target_max_block_size = batches * _BYTES_PER_BATCH
    return dataset.repartition(target_num_rows_per_block=batches * batch_size)


def _num_cpus_that_leave_one(num_workers: int, num_cpus: float, cpus_of_nodes: Sequence[float]) -> float:
    """Return what each worker reserves, so that a node has one CPU left for the tasks that read and cut the dataset.

    They run beside the workers, and while no node has a whole CPU left Ray waits for one, for ever and without a word.

    Args:
        num_workers: wherever Ray places them.
        num_cpus: what each should reserve, if that leaves a CPU.
        cpus_of_nodes: how many each node has.

    >>> _num_cpus_that_leave_one(2, 1, [2]), _num_cpus_that_leave_one(4, 1, [2, 2]), _num_cpus_that_leave_one(2, 1, [4])
    (0.5, 0.5, 1)
    """

    def leaves_one(share: float) -> bool:
        # As many workers as a node's other CPUs have room for leave it one, and the next worker takes of that.
        return sum(int((cpus - 1) / share + 1e-6) + 1 for cpus in cpus_of_nodes if cpus >= 1) > num_workers

    # The largest that will do is what was asked for, or divides a node's other CPUs without a rest.
    shares = {(cpus - 1) / workers for cpus in cpus_of_nodes for workers in range(1, num_workers + 1)}
    shares = {math.floor(share * 10_000) / 10_000 for share in shares}  # Ray counts in steps of 0.0001
    return max((share for share in (num_cpus, *shares) if 0 < share <= num_cpus and leaves_one(share)), default=0)
