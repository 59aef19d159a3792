"""An experiment whose driver is killed goes on where it was, and population based training on the same function."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from programs import load_colour_blobs
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from air_tutorials.trials import train_cifar
from air_tutorials.tuning import failure_of, make_tuner

pytestmark = pytest.mark.usefixtures("cluster")

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

EPOCHS = 3
DRIVER = """
import sys
from programs import load_colour_blobs
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from air_tutorials.cluster import local_cluster
from air_tutorials.trials import train_cifar
from air_tutorials.tuning import make_tuner

local_cluster()
space = {"l1": 16, "l2": 8, "batch_size": 4, "lr": tune.grid_search([0.05, 0.02, 0.01, 0.005])}
make_tuner(train_cifar, space, num_samples=1, max_epochs=3, storage_path=sys.argv[1], name="killed",
           data=load_colour_blobs(2000, 500), scheduler=FIFOScheduler(), max_concurrent_trials=1).fit()
"""


def count_ended(experiment: Path) -> int:
    """Count the trials of which Tune has written down that they ended."""
    states = experiment.glob("experiment_state-*.json")
    return max((state.read_text().count("TERMINATED") for state in states), default=0)


def test_a_killed_driver_is_restored_and_what_had_ended_is_not_run_again(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
        "PYTHONPATH": str(Path(__file__).parent),
    }
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], env=environment)
    deadline = time.monotonic() + 200
    while count_ended(tmp_path / "killed") < 2 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, "it was done before it could be killed"
    killed_at = time.time()

    trainable = tune.with_resources(tune.with_parameters(train_cifar, data=load_colour_blobs(2000, 500)), {"cpu": 1})
    results = tune.Tuner.restore(str(tmp_path / "killed"), trainable).fit()

    assert [failure_of(result) for result in results] == [None] * 4
    tables = [result.metrics_dataframe for result in results]
    assert all(table["epoch"].tolist()[-1] == EPOCHS - 1 for table in tables)
    ended_before = [table for table in tables if table["timestamp"].max() < killed_at]
    assert 2 <= len(ended_before) < 4
    # Of the others, what was reported in the last second may not have been written down, and is trained once more.
    for table in tables:
        assert sorted(set(table["epoch"])) == list(range(EPOCHS))
        assert len(table) <= EPOCHS + 1
        assert table.groupby("epoch")["loss"].nunique().tolist() == [1] * EPOCHS


def test_a_population_takes_over_weights_epochs_and_other_learning_rates(tmp_path: Path) -> None:
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=2,
        hyperparam_mutations={"lr": tune.loguniform(0.01, 0.1)},
        quantile_fraction=0.5,
        synch=True,
    )
    space = {"l1": 16, "l2": 8, "batch_size": 16, "lr": tune.grid_search([0.05, 1e-6])}
    arguments = {"num_samples": 1, "max_epochs": 5, "storage_path": tmp_path, "data": load_colour_blobs()}
    results = make_tuner(train_cifar, space, scheduler=scheduler, name="population", **arguments).fit()

    assert [failure_of(result) for result in results] == [None, None]
    for result in results:
        assert result.metrics_dataframe["epoch"].tolist() == [0, 1, 2, 3, 4]
    good, bad = (result.metrics_dataframe for result in results)
    assert bad["config/lr"].tolist()[:2] == [1e-6, 1e-6]
    assert min(bad["config/lr"][2:]) >= 0.008  # drawn anew, or a factor beside the good one's
    # It goes on from the other one's weights and not from its own.
    assert bad["loss"][2] < good["loss"][0] < bad["loss"][1]
