"""Weights come back as they were saved, whatever wrapped them, and nothing else is loaded."""

import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from air_tutorials.checkpoints import load_checkpoint, load_weights, save_checkpoint, unwrap_model
from air_tutorials.errors import (
    CheckpointError,
    CheckpointMismatchError,
    DamagedCheckpointError,
    MissingCheckpointError,
    UnsafeCheckpointError,
)


def make_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    weights, others = first.state_dict(), second.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def test_weights_come_back_as_saved(tmp_path):
    saved = make_model(seed=1)
    assert same_weights(load_weights(save_checkpoint(tmp_path, saved), make_model()), saved)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda model: torch.compile(nn.DataParallel(model))])
def test_wrappers_are_left_out_when_saving_and_stripped_when_loading(wrap, tmp_path):
    saved = make_model(seed=1)
    assert unwrap_model(wrap(saved)) is saved
    save_checkpoint(tmp_path / "ours", wrap(saved))
    # A foreign program saves the wrapped state_dict, and more beside it.
    torch.save({"epoch": 3, "state_dict": wrap(saved).state_dict()}, tmp_path / "theirs.pt")
    for source in (tmp_path / "ours", tmp_path / "ours" / "model.pt", str(tmp_path / "theirs.pt")):
        assert same_weights(load_weights(source, make_model()), saved)
        assert same_weights(unwrap_model(load_weights(source, wrap(make_model()))), saved)


def test_a_part_of_the_model_may_be_called_module(tmp_path):
    model = nn.ModuleDict({"module": nn.Linear(2, 2)})
    assert same_weights(
        load_weights(save_checkpoint(tmp_path, model), nn.ModuleDict({"module": nn.Linear(2, 2)})), model
    )


def test_a_ray_checkpoint_is_loaded_like_its_directory(tmp_path):
    from ray.train import Checkpoint

    saved = make_model(seed=1)
    save_checkpoint(tmp_path, saved)
    assert same_weights(load_weights(Checkpoint.from_directory(str(tmp_path)), make_model()), saved)


def test_training_goes_on_where_it_stopped(tmp_path):
    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model.train()
        optimizer.zero_grad()
        model(torch.linspace(0, 1, 20).reshape(5, 4)).pow(2).mean().backward()
        optimizer.step()

    straight = make_model()
    optimizer = torch.optim.Adam(straight.parameters())
    step(straight, optimizer)
    save_checkpoint(tmp_path, straight, optimizer, next_epoch=7)
    step(straight, optimizer)

    resumed = make_model(seed=2)
    optimizer = torch.optim.Adam(resumed.parameters())
    assert load_checkpoint(tmp_path, resumed, optimizer) == 7
    step(resumed, optimizer)
    assert same_weights(straight, resumed)


def test_keys_and_shapes_that_do_not_fit_are_named(tmp_path):
    save_checkpoint(tmp_path, nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)))
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as caught:
        load_weights(tmp_path, model)
    message = str(caught.value)
    assert "missing: 2.weight" in message
    assert "shape of 0.weight: saved (5, 4), model (3, 4)" in message
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())

    save_checkpoint(tmp_path, make_model())
    with pytest.raises(CheckpointMismatchError, match=r"unexpected: 1\.weight"):
        load_weights(tmp_path, nn.Sequential(nn.Linear(4, 3)))


def test_an_optimizer_of_another_model_is_refused(tmp_path):
    model = make_model()
    save_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), lr=1), next_epoch=1)
    with pytest.raises(CheckpointMismatchError, match="optimizer"):
        load_checkpoint(tmp_path, model, torch.optim.SGD(model[0].parameters(), lr=1))


def test_a_checkpoint_for_inference_cannot_resume(tmp_path):
    model = make_model()
    save_checkpoint(tmp_path, model)
    with pytest.raises(MissingCheckpointError, match=r"training_state\.pt"):
        load_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), lr=1))


def test_nothing_there(tmp_path):
    with pytest.raises(MissingCheckpointError, match="does not exist"):
        load_weights(tmp_path / "nowhere", make_model())


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 0.999))
@example(share=0.0)
@example(share=1e-9)
def test_a_truncated_file_is_refused(share, tmp_path_factory):
    directory = tmp_path_factory.mktemp("truncated")
    path = save_checkpoint(directory, make_model()) / "model.pt"
    os.truncate(path, math.ceil(path.stat().st_size * share))
    with pytest.raises(DamagedCheckpointError, match=r"model\.pt \([\d,]+ bytes\)"):
        load_weights(path, make_model())


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_as_damaged_or_unsafe(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / "model.pt"
    path.write_bytes(content)
    with pytest.raises((DamagedCheckpointError, UnsafeCheckpointError)):
        load_weights(path, make_model())


@pytest.mark.parametrize("value", [[1, 2], {"lr": 0.1}, {0: torch.ones(2)}, torch.ones(2)])
def test_a_file_without_a_state_dict_is_refused(value, tmp_path):
    torch.save(value, tmp_path / "model.pt")
    with pytest.raises(DamagedCheckpointError, match="no state_dict"):
        load_weights(tmp_path, make_model())


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file at hand that the system refuses to read")
def test_a_file_that_cannot_be_read_is_not_called_damaged():
    with pytest.raises(CheckpointError, match="/proc/self/mem cannot be read: Input/output error") as caught:
        load_weights("/proc/self/mem", nn.Linear(2, 1))
    assert not isinstance(caught.value, DamagedCheckpointError)


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_malicious_pickle_is_refused_and_not_run(save, tmp_path):
    save({"weight": torch.ones(2), "extra": Malicious(tmp_path / "run")}, tmp_path / "model.pt")
    with pytest.raises(UnsafeCheckpointError, match="was not loaded"):
        load_weights(tmp_path, make_model())
    assert not (tmp_path / "run").exists()


def test_saving_replaces_in_one_step_and_leaves_no_temporary_file(tmp_path):
    for seed in (1, 2):
        save_checkpoint(tmp_path, make_model(seed))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert same_weights(load_weights(tmp_path, make_model()), make_model(2))
