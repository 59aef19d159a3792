"""`make bench` compares like with like: both sides do the same work. Nothing here is timed."""

import importlib.util
import json
import sys

import numpy as np
import pyarrow.parquet
import pytest
import ray
import torch
from torch.utils.data import DataLoader

from air_tutorials import baseline
from air_tutorials.checkpoints import load_weights
from air_tutorials.datasets import load_fashion_mnist
from air_tutorials.models import Net, NeuralNetwork
from air_tutorials.torch_predictor import PREDICTIONS, TorchPredictor
from air_tutorials.trials import load_split, train_alone
from benchmarks import conversion, marks, payoff, prediction, quickstart, single, training
from benchmarks.predict_by_hand import predict_files
from benchmarks.programs import make_double_model
from benchmarks.tune_by_hand import draw_configs, tune_with_optuna

# Ray's workers do not have the benchmarks on their path.
for module in (marks, payoff):
    ray.cloudpickle.register_pickle_by_value(module)

INSTALLED = [
    twin
    for twin, package in {"ddp": "torch", "accelerate": "accelerate", "fabric": "lightning_fabric"}.items()
    if importlib.util.find_spec(package)
]


def largest_difference(first: torch.nn.Module, second: torch.nn.Module) -> float:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """Page 1's model after an epoch of the plain program, in double precision."""
    directory = tmp_path_factory.mktemp("plain") / "weights"
    config = {"lr": 0.1, "batch_size": 64, "epochs": 1, "make_model": make_double_model, "save_to": directory}
    baseline.train_func(config)
    return load_weights(directory, make_double_model())


@pytest.mark.parametrize("twin", INSTALLED)
def test_every_twin_trains_the_plain_programs_weights(twin, plain_model, tmp_path):
    run = training.torchrun(twin, tmp_path, 1, "--double")
    (saved,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert largest_difference(load_weights(saved, make_double_model()), plain_model) < 1e-12
    assert (run.num_steps, run.num_threads) == (188, 1)


def test_ray_and_the_limit_take_as_many_steps(cluster, tmp_path):
    ray_train, (ddp, limit) = training.fit(tmp_path, 1), training.torchrun_and_limit(tmp_path, 1)
    assert [(run.num_steps, run.num_threads) for run in (ray_train, ddp, limit)] == [(188, 1)] * 3
    assert all(min(run.to_first_step_s, run.after_last_step_s, run.images_per_s) > 0 for run in (ray_train, ddp))
    assert limit.images_per_s > 0


def test_a_pause_at_the_end_is_not_the_programs(tmp_path):
    lines = [
        {"epoch": 0, "first": 12.0, "last": 14.0, "num_steps": 11, "num_threads": 1},
        {"epoch": 1, "first": 15.0, "last": 16.0, "num_steps": 11, "num_threads": 1},
        {"paused_s": 2.5},
    ]
    (tmp_path / "marks").write_text("\n".join(map(json.dumps, lines)))
    run = marks.read_run(tmp_path / "marks", started=10.0, ended=20.0, batch_size=64)
    assert run == marks.Run(2.0, 1.5, 640.0, 22, 1)


def test_both_loaders_hand_out_the_same_batches():
    loaders = [DataLoader(dataset, batch_size=500) for dataset in (load_fashion_mnist(), quickstart.load_data())]
    for ours, theirs in zip(*loaders, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    assert [single.drain(loader) for loader in loaders] == [12_000, 12_000]


def test_both_programs_of_one_process_train_the_same_weights():
    models = []

    def keep(epoch):
        def run(loader, model, loss_fn, optimizer):
            models.append(model)
            return epoch(loader, model, loss_fn, optimizer)

        return run

    single.train(keep(single.train_epoch), DataLoader(load_fashion_mnist(), batch_size=64))
    single.train(keep(single.quickstart_epoch), DataLoader(quickstart.load_data(), batch_size=64))
    assert largest_difference(*models) == 0


def test_the_changed_lines_are_counted_alike_for_every_twin():
    names = [f"benchmarks.with_{twin}" for twin in INSTALLED]
    counted = [conversion.changed_lines(importlib.import_module(name)) for name in ["air_tutorials.trainer", *names]]
    assert min(counted) == counted[0] > 0
    assert conversion.changed_lines(baseline) == 0
    assert conversion.helper_lines(importlib.import_module("benchmarks.with_ddp")) > 10


def test_what_is_predicted_by_hand_is_what_ray_predicts(cluster, tmp_path):
    weights = prediction.save_weights(tmp_path)
    files = prediction.write_rows(tmp_path / "rows", 3000)
    with_ray = prediction.predict_with_ray(files, weights, tmp_path)
    by_hand = prediction.predict_by_hand(files, weights, tmp_path)
    prediction.check_same_work([with_ray, by_hand])
    assert sum(by_hand.class_counts) == 3000
    assert with_ray.peak_mib > 50
    with pytest.raises(AssertionError, match="not the same"):
        prediction.check_same_work([with_ray, by_hand._replace(class_counts=[3000])])


def test_the_hand_written_process_predicts_each_row_by_its_id(tmp_path):
    weights = prediction.save_weights(tmp_path)
    files = prediction.write_rows(tmp_path / "rows", 1500)
    predict_files(sorted(files.glob("*.parquet")), weights, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == list(range(1500))
    images = load_fashion_mnist().images[:1500].numpy()
    expected = TorchPredictor(weights, NeuralNetwork)({"image": images})[PREDICTIONS]
    np.testing.assert_allclose(np.array(table["predictions"].to_pylist()), expected, rtol=1e-4, atol=1e-3)


def test_a_trial_of_optuna_trains_what_the_plain_function_trains(tmp_path):
    data, (config,) = load_split(num_images=200), draw_configs(1)
    assert tune_with_optuna([config], 2, data, tmp_path / "optuna") == [2]
    train_alone({**config, "epochs": 2, "save_to": tmp_path / "plain"}, data)
    (saved,) = (tmp_path / "optuna").iterdir()
    models = [load_weights(path, Net(config["l1"], config["l2"])) for path in (saved, tmp_path / "plain")]
    assert largest_difference(*models) == 0


def test_optuna_stops_trials_early_and_the_configurations_stay_the_same(tmp_path):
    configs = draw_configs(6)
    assert configs == draw_configs(6)
    epochs = tune_with_optuna(configs, 4, load_split(num_images=200), tmp_path)
    assert len(epochs) == 6
    assert all(1 <= each <= 4 for each in epochs)
    assert sum(epochs) < 24


def test_tune_trains_the_same_configurations(cluster, tmp_path):
    from benchmarks import tuning_trials

    configs = draw_configs(2)
    run = tuning_trials.with_ray(configs, 1, load_split(num_images=100), tmp_path)
    assert run.epochs == [1, 1]
    assert tuning_trials.in_a_loop(configs, run.epochs, load_split(num_images=100), tmp_path).epochs == [1, 1]


def test_workers_take_their_share_of_a_batch_and_the_crossing_is_found(cluster, tmp_path):
    sizes = {key: [64] for key in payoff.MODELS}
    config = {"batch_sizes": sizes, "seconds": 0.01, "threads": 2, "pairs": 2}
    runs = payoff.run_on_workers(payoff.sweep_in_turns, config, 2, tmp_path)
    assert {name: len(pairs) for name, pairs in runs.items()} == {payoff.ALONE: 2, payoff.TWO: 2}
    for speeds in (speeds for pairs in runs.values() for speeds in pairs):
        assert list(speeds) == list(payoff.MODELS)
        assert all(speeds[model][64] > 0 for model in payoff.MODELS)
    assert payoff.crossing_point([1, 100], [1, 4], [2, 2]) == pytest.approx(10)
    assert payoff.crossing_point([1, 100], [1, 1], [2, 2]) is None


def test_the_command_writes_results_page_and_plot(tmp_path, monkeypatch):
    from benchmarks import __main__ as command

    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only=single", "--quick", "--pairs=1", f"--into={tmp_path}"])
    assert command.main() == 0
    results = json.loads((tmp_path / "benchmarks" / "results.json").read_text())
    assert results["single"]["rows"][0]["what"] == "the loader alone"
    page = (tmp_path / "benchmarks.md").read_text()
    assert "numbers mean nothing" in page
    assert "| the loader alone |" in page
    assert (tmp_path / "_static" / "benchmarks_ratios.png").read_bytes().startswith(b"\x89PNG")
