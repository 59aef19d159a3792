"""Simulated workers compute what Ray's own workers compute, for the converted program and for half converted ones."""

import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.train
import torch
import torch.distributed
from ray.train.torch import TorchConfig, TorchTrainer
from torch.utils.data import Subset

from air_tutorials import baseline, trainer
from air_tutorials.conversion import CHANGES, program
from air_tutorials.datasets import load_fashion_mnist
from air_tutorials.errors import ClusterError
from air_tutorials.outcomes import Worker
from air_tutorials.simulated_ray import run_as_workers

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

HALF = (
    set(CHANGES),
    set(),
    set(CHANGES) - {"batch_size_per_worker"},
    set(CHANGES) - {"prepare_data_loader"},
    set(CHANGES) - {"prepare_model"},
    set(CHANGES) - {"reduce_over_workers"},
    set(CHANGES) - {"seed_epoch", "shard_without_padding"},
)
FOR_EVER = set(CHANGES) - {"unwrap_model"}


def make_worker(storage: Path, data_root: str, *, shuffle: bool = False, num_test_images: int = 49) -> Worker:
    training_data = Subset(load_fashion_mnist(data_root, train=True), range(144))
    test_data = Subset(load_fashion_mnist(data_root, train=False), range(num_test_images))
    return Worker(training_data, test_data, storage, shuffle=shuffle)


def seen_of(worker: Worker, history: list[dict[str, Any]]) -> dict[str, Any]:
    weights = {name: tensor.numpy() for name, tensor in worker.model.state_dict().items()}
    return {"history": history, "weights": weights, "steps": worker.steps}


def rows_of(steps: list[tuple[int, list[int], float]]) -> list[int]:
    return [row for _, rows, _ in steps for row in rows]


def run_on_rays_workers(config: dict[str, Any]) -> list[Any]:
    """Run each program on this worker, the last one until it gives up, and return what is seen of every worker."""
    found = []
    for source, settings in config["programs"]:
        worker = make_worker(config["storage"], config["data_root"], **settings)
        # The run of the program before left a checkpoint.
        names = {**vars(baseline), **vars(trainer), "resume": lambda _model, _optimizer: 0}
        exec(source, names)
        try:
            mine: Any = seen_of(worker, names["train_func"](worker.make_config()))
        except RuntimeError as error:
            return [*found, str(error)]
        of_all: list[Any] = [None] * 2
        torch.distributed.all_gather_object(of_all, mine)
        found.append(of_all)
    return found


@pytest.fixture(scope="module")
def on_ray(cluster: dict[str, float], data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    storage = tmp_path_factory.mktemp("ray")
    programs = [(program(changes), {"shuffle": shuffle}) for shuffle in (False, True) for changes in HALF]
    programs += [(program(changes), {"num_test_images": 1}) for changes in (set(CHANGES), FOR_EVER)]
    config = {"programs": programs, "storage": storage, "data_root": str(data_root)}
    return (
        TorchTrainer(
            run_on_rays_workers,
            train_loop_config=config,
            # What waits longer than this waits for ever.
            torch_config=TorchConfig(timeout_s=10),
            scaling_config=ray.train.ScalingConfig(num_workers=2),
            run_config=ray.train.RunConfig(storage_path=str(storage)),
        )
        .fit()
        .return_value
    )


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("number", range(len(HALF)))
def test_the_simulation_computes_what_rays_workers_compute(
    on_ray: list[Any], data_root: Path, tmp_path: Path, number: int, shuffle: bool
) -> None:
    workers = [make_worker(tmp_path, str(data_root), shuffle=shuffle) for _ in range(2)]
    run = run_as_workers(program(HALF[number]), lambda rank: workers[rank].make_config(), 2, tmp_path)
    real_workers = on_ray[number + len(HALF) * shuffle]
    for real, worker, history in zip(real_workers, workers, run.returned, strict=True):
        seen = seen_of(worker, history)
        # Ray's loader fetches one batch ahead, so that only the order can be compared, and not step by step.
        assert rows_of(real["steps"]) == rows_of(seen["steps"])
        assert [loss for *_, loss in real["steps"]] == pytest.approx([loss for *_, loss in seen["steps"]], abs=1e-12)
        assert len(real["history"]) == len(history) == 2
        for is_so, should_be in zip(history, real["history"], strict=True):
            assert is_so == pytest.approx(should_be, abs=1e-9)
        for name, weights in real["weights"].items():
            assert abs(weights - seen["weights"][name]).max() < 1e-12


def test_what_waits_for_ever_there_is_found_at_once(on_ray: list[Any], data_root: Path, tmp_path: Path) -> None:
    *_, ended, never_ended = on_ray
    assert len(on_ray) == 2 * len(HALF) + 2
    assert [len(worker["history"]) for worker in ended] == [2, 2]
    assert isinstance(never_ended, str), "on Ray's workers the program came to an end"

    def run(changes: set[str]) -> None:
        workers = [make_worker(tmp_path, str(data_root), num_test_images=1) for _ in range(2)]
        run_as_workers(program(changes), lambda rank: workers[rank].make_config(), 2, tmp_path)

    run(set(CHANGES))
    with pytest.raises(ClusterError, match="worker 0 waits in the exchange of the model's buffers, worker 1 waits in"):
        run(FOR_EVER)
