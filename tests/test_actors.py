"""A network computes the same in this process and in actors, one or many, whatever dies."""

import os
import signal
import sys
from pathlib import Path

import pytest
import ray
import torch
from programs import load_blobs
from torch import Tensor, nn
from torch.nn import functional

from air_tutorials.actors import Network, average_weights, load_digits
from air_tutorials.checkpoints import load_weights
from air_tutorials.errors import CheckpointMismatchError, ConfigError
from air_tutorials.models import DigitNet

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def make_model() -> nn.Module:
    """A model that draws random numbers while it trains, and has an integer buffer."""
    layers = nn.Linear(10, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.ReLU(), nn.Linear(32, 4)
    return nn.Sequential(*layers, nn.LogSoftmax(dim=1))


BLOBS = {"lr": 0.1, "make_model": make_model, "load_data": load_blobs}
COUNTER = "1.num_batches_tracked"


def same(first: object, second: object) -> bool:
    """Compare nested dictionaries and lists of tensors bit for bit."""
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and first.numpy().tobytes() == second.numpy().tobytes()
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


# --- one network, in this process


def test_the_default_is_plain_pytorch_on_the_sample(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIR_TUTORIALS_DATA", str(data_root))
    network = Network(seed=3)
    loss = network.train()
    score = network.test()
    weights = network.get_weights()

    (training_data, test_data), num_threads = load_digits(), torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(3_000_000)
    model = DigitNet()
    torch.manual_seed(3_000_001)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    losses = []
    for indices in torch.randperm(12_000)[:1024].split(64):
        images = torch.stack([training_data[i][0] for i in indices.tolist()])
        batch_loss = functional.nll_loss(model(images), training_data.labels[indices])
        optimizer.zero_grad()
        batch_loss.backward()
        optimizer.step()
        losses.append(batch_loss.item())
    with torch.no_grad():
        images = torch.stack([test_data[i][0] for i in range(2000)])
        num_correct = int((model(images).argmax(dim=1) == test_data.labels).sum())
    torch.set_num_threads(num_threads)

    assert same(weights, dict(model.state_dict()))
    assert loss == pytest.approx(sum(losses) / 16)
    assert (score.num_correct, score.num_samples) == (num_correct, 2000)


def test_it_learns() -> None:
    network = Network(**BLOBS)
    before = network.test()
    for _ in range(10):
        network.train(256)
    assert before.accuracy < 0.6
    assert network.test().accuracy > 0.8


def test_the_process_is_left_as_it_was() -> None:
    num_threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    settings = BLOBS | {"num_threads": num_threads + 1}
    network = Network(**settings)
    network.train_from(network.get_state(), 64)
    network.test()
    with pytest.raises(ValueError, match="learning rate"):
        Network(**settings | {"lr": -1.0})
    assert torch.get_num_threads() == num_threads
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_it_gives_out_and_takes_in_is_copied() -> None:
    network = Network(**BLOBS)
    network.train(64)
    state, before = network.get_state(), network.get_state()
    after = network.train_from(state, 64)
    network.train(64)
    assert same(state, before)
    assert not same(state["weights"], after["weights"])
    assert not same(state["optimizer"], after["optimizer"])
    assert (state["rounds"], after["rounds"], network.rounds) == (1, 2, 3)


def test_it_goes_on_from_a_state_as_if_it_had_never_stopped() -> None:
    """Whatever was computed in between, by itself or by another."""
    first, second = Network(**BLOBS, seed=5), Network(**BLOBS, seed=5)
    first.train(64)
    state = first.get_state()
    second.train(256)
    second.train(256)
    Network(**BLOBS, seed=6).train(64)
    torch.rand(3)
    first.test()
    first.train(64)
    assert same(second.train_from(state, 64), first.get_state())


def test_it_saves_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = Network(**BLOBS)
    path = network.save("saved")
    assert path == tmp_path / "saved"
    assert same(dict(load_weights(path, make_model()).state_dict()), network.get_weights())


@pytest.mark.parametrize("num_images", [0, -1, 257])
def test_numbers_out_of_range_are_refused(num_images: int) -> None:
    network = Network(**BLOBS)
    with pytest.raises(ConfigError, match=f"num_images={num_images} must be between 1 and 256"):
        network.train(num_images)
    assert network.rounds == 0
    with pytest.raises(ConfigError, match="num_threads is 0"):
        Network(**BLOBS, num_threads=0)


def test_weights_of_another_model_are_refused_and_nothing_is_changed() -> None:
    network = Network(**BLOBS)
    before = network.get_weights()
    with pytest.raises(CheckpointMismatchError, match=r"do not fit Sequential: missing: 0\.weight; .* and 9 more"):
        network.set_weights(DigitNet().state_dict())
    with pytest.raises(CheckpointMismatchError, match=r"4\.bias is \(1,\) torch\.float32 and not \(4,\)"):
        network.set_weights({**before, "0.bias": before["0.bias"] + 1, "4.bias": torch.zeros(1)})
    assert same(network.get_weights(), before)


# --- many networks, in actors


@pytest.mark.parametrize("num_actors", [1, 2, 4])
def test_actors_in_parallel_compute_what_one_process_computes(cluster: dict[str, float], num_actors: int) -> None:
    here = [Network(**BLOBS, seed=seed) for seed in range(num_actors)]
    actors = [ray.remote(Network).remote(**BLOBS, seed=seed) for seed in range(num_actors)]
    for _ in range(2):
        losses = [network.train(128) for network in here]
        assert ray.get([actor.train.remote(128) for actor in actors]) == losses
        assert ray.get([actor.test.remote() for actor in actors]) == [network.test() for network in here]
        assert len(set(losses)) == num_actors

        received = ray.get([actor.get_weights.remote() for actor in actors])
        assert same(received, [network.get_weights() for network in here])
        average = average_weights(received)
        for name in average.keys() - {COUNTER}:
            mean = torch.stack([weights[name] for weights in received]).mean(dim=0)
            torch.testing.assert_close(average[name], mean)

        shared = ray.put(average)
        ray.get([actor.set_weights.remote(shared) for actor in actors])
        for network in here:
            network.set_weights(average)
        assert same(ray.get([actor.get_weights.remote() for actor in actors]), [average] * num_actors)


class Mortal(Network):
    """A network that is killed at the end of its second training, whatever it has told until then."""

    def train(self, num_images: int = 1024) -> float:
        loss = super().train(num_images)
        if self.rounds == 2 and not ray.get_runtime_context().was_current_actor_reconstructed:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    def get_pid(self) -> int:
        return os.getpid()


def test_a_killed_actor_loses_its_weights_but_not_those_of_the_state(cluster: dict[str, float]) -> None:
    undisturbed = Network(**BLOBS)
    states = [undisturbed.get_state()]
    for _ in range(3):
        undisturbed.train(128)
        states.append(undisturbed.get_state())

    remote_mortal = ray.remote(max_restarts=1, max_task_retries=1)(Mortal)
    forgetful, careful = remote_mortal.remote(**BLOBS), remote_mortal.remote(**BLOBS)
    # What was not answered when the actor died is repeated; only an answered call is lost.
    ray.get(forgetful.train.remote(128))
    ray.get(forgetful.train.remote(128))
    kept = [careful.get_state.remote()]
    for _ in range(3):
        kept.append(careful.train_from.remote(kept[-1], 128))
    assert same(ray.get(forgetful.get_state.remote()), states[1])
    assert same(ray.get(kept), states)

    # Its one restart is used up: this time it stays dead, and another actor inherits.
    os.kill(ray.get(careful.get_pid.remote()), signal.SIGKILL)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(careful.train_from.remote(kept[2], 128))
    assert same(ray.get(forgetful.train_from.remote(kept[2], 128)), states[3])
