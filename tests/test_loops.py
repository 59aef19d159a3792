"""One loop for before and after: it learns what PyTorch's own loop learns, and scores by count."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from air_tutorials.loops import Score, test_epoch, train_epoch
from air_tutorials.models import DigitNet, Net, NeuralNetwork


def make_data(count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(count)
    return TensorDataset(torch.randn(count, 5, generator=generator), torch.randint(3, (count,), generator=generator))


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, 3)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_the_score_is_that_of_one_pass_over_everything(count, batch_size):
    data, model = make_data(count), make_model()
    score = test_epoch(DataLoader(data, batch_size=batch_size), model, nn.CrossEntropyLoss())
    with torch.no_grad():
        logits = model(data.tensors[0])
    assert score.num_samples == count
    assert score.num_correct == int((logits.argmax(1) == data.tensors[1]).sum())
    assert score.loss == pytest.approx(float(nn.functional.cross_entropy(logits, data.tensors[1])), abs=1e-5)


def test_training_equals_the_textbook_loop_and_tells_each_step():
    data, model, reference = make_data(20), make_model(), make_model()
    steps = []
    mean_loss = train_epoch(
        DataLoader(data, batch_size=8),
        model,
        nn.CrossEntropyLoss(),
        torch.optim.SGD(model.parameters(), lr=0.5),
        lambda step, num_steps, loss: steps.append((step, num_steps, float(loss))),
    )
    losses = []
    for features, targets in DataLoader(data, batch_size=8):
        loss = nn.functional.cross_entropy(reference(features), targets)
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
                parameter -= 0.5 * gradient
        losses.append(loss.item())
    assert torch.equal(model.weight, reference.weight)
    assert steps == [(step, 3, pytest.approx(loss)) for step, loss in enumerate(losses)]
    assert mean_loss == pytest.approx(sum(losses) / 3)


def test_testing_changes_neither_weights_nor_running_averages():
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    test_epoch(DataLoader(make_data(9), batch_size=4), model, nn.CrossEntropyLoss())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_no_sample_gives_no_number():
    score = test_epoch([], make_model(), nn.CrossEntropyLoss())
    assert score == Score(0.0, 0, 0)
    assert math.isnan(score.loss)
    assert math.isnan(score.accuracy)
    model = make_model()
    assert math.isnan(train_epoch([], model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=1)))


@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [(NeuralNetwork(), (1, 28, 28), 669_706), (Net(), (3, 32, 32), 62_006), (DigitNet(), (1, 28, 28), 431_080)],
)
def test_models_have_the_shapes_and_sizes_that_are_documented(model, shape, parameters):
    assert model(torch.zeros(2, *shape)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_widths_of_net_are_free():
    assert Net(l1=8, l2=16).fc2.weight.shape == (16, 8)


def test_digit_net_gives_log_probabilities():
    assert torch.allclose(DigitNet()(torch.randn(3, 1, 28, 28)).exp().sum(1), torch.ones(3))
