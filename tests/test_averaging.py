"""The average of weights is plain PyTorch arithmetic; what cannot be averaged is refused by its name."""

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from air_tutorials.averaging import average_weights
from air_tutorials.errors import CheckpointMismatchError, ConfigError

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


@given(data=st.data(), dtype=st.sampled_from(DTYPES), num_models=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_an_average_is_plain_arithmetic(data: st.DataObject, dtype: torch.dtype, num_models: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = data.draw(st.dictionaries(st.text(max_size=2), st.lists(st.integers(0, 3), max_size=3), max_size=4))
    scale = 10.0 ** data.draw(st.integers(-4, 3))
    state_dicts = [
        {name: (torch.randn(shape, generator=generator) * scale).to(dtype) for name, shape in shapes.items()}
        for _ in range(num_models)
    ]
    average = average_weights(state_dicts)
    assert list(average) == list(shapes)
    for name, tensor in average.items():
        mean = torch.stack([weights[name] for weights in state_dicts]).to(torch.complex128).mean(dim=0)
        assert tensor.dtype == dtype
        # One unit in the last place; below the smallest normal number these units have all the same size.
        eps, smallest_normal = torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal
        assert torch.allclose(tensor.to(torch.complex128), mean, rtol=eps, atol=eps * smallest_normal)


@given(st.lists(st.tuples(*[st.floats(-(2.0**100), 2.0**100, width=32)] * 2), min_size=1))
def test_of_two_it_is_half_their_sum_to_the_last_bit(pairs: list[tuple[float, float]]) -> None:
    first, second = torch.tensor(pairs).unbind(dim=1)
    assert torch.equal(average_weights([{"": first}, {"": second}])[""], (first + second) / 2)


@given(st.lists(st.floats(width=32)), st.lists(st.floats()), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_the_average_of_one_is_that_one(singles: list[float], doubles: list[float], integers: list[int]) -> None:
    """Also of infinities, minus zero, and integers that no float holds. A NaN stays one."""
    weights = {"a": torch.tensor(singles), "b": torch.tensor(doubles, dtype=torch.float64), "c": torch.tensor(integers)}
    for name, tensor in average_weights(iter([weights])).items():
        assert tensor.dtype == weights[name].dtype
        assert tensor.isnan().equal(weights[name].isnan())
        assert tensor.nan_to_num(0).numpy().tobytes() == weights[name].nan_to_num(0).numpy().tobytes()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_of_integers_and_booleans_it_is_the_maximum(numbers: list[int]) -> None:
    average = average_weights([{"count": torch.tensor(n), "flag": torch.tensor(n > 0)} for n in numbers])
    assert average == {"count": max(numbers), "flag": max(numbers) > 0}
    assert (average["count"].dtype, average["flag"].dtype) == (torch.int64, torch.bool)


def test_the_average_of_models_with_batch_normalisation_can_be_loaded() -> None:
    models = [nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(3)]
    for number, model in enumerate(models):
        for _ in range(number + 1):
            model(torch.randn(4, 2))
    average = average_weights(model.state_dict() for model in models)
    models[0].load_state_dict(average)
    assert models[0][1].num_batches_tracked == 3


def test_nothing_is_shared_with_what_was_averaged() -> None:
    weights = {"float": torch.ones(2, dtype=torch.float64), "int": torch.ones(2, dtype=torch.int64)}
    model = nn.Linear(1, 1)
    for tensor in average_weights([weights]).values():
        tensor.zero_()
    assert all(tensor.all() for tensor in weights.values())
    assert not any(tensor.requires_grad for tensor in average_weights([dict(model.named_parameters())]).values())


A, B = torch.zeros(2), torch.zeros(3)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"b": B}, "missing: a"),
        ({"a": A, "b": B, "module.a": A}, r"unexpected: module\.a"),
        ({"a": A, "b": A}, r"b is \(2,\) torch\.float32 and not \(3,\) torch\.float32"),
        ({"a": A.double(), "b": B}, r"a is \(2,\) torch\.float64 and not \(2,\) torch\.float32"),
        ({}, "missing: a; missing: b"),
        (dict.fromkeys("abcdefghijk", A) | {"b": B}, "unexpected: c;.*; unexpected: j; and 1 more"),
    ],
)
def test_weights_of_different_models_are_refused_by_their_names(other: dict[str, Tensor], difference: str) -> None:
    fitting = {"a": A, "b": B}
    with pytest.raises(
        CheckpointMismatchError, match=rf"state_dicts\[2\] does not fit state_dicts\[0\]: {difference}\."
    ):
        average_weights([fitting, fitting, other])


@pytest.mark.parametrize(
    ("state_dicts", "message"),
    [
        ([], "no weights to average"),
        ({"a": A}, "Give a list"),
        ([{"a": A}, None], r"state_dicts\[1\] is of the type NoneType"),
        ([nn.Linear(1, 1)], r"of the type Linear.*Give model\.state_dict\(\)"),
        ([{"a": A, "_extra_state": {}}], r"state_dicts\[0\]\['_extra_state'\] is of the type dict"),
    ],
)
def test_what_is_no_list_of_weights_is_refused(state_dicts: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        average_weights(state_dicts)


def test_a_reference_in_the_place_of_weights_is_refused(cluster: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"ObjectRef.*call ray\.get"):
        average_weights([ray.put({"a": A})])
