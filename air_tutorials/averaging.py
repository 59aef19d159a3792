"""Average the weights of models: plain PyTorch, nothing of Ray."""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from air_tutorials.errors import CheckpointMismatchError, ConfigError

Weights = dict[str, Tensor]


def average_weights(state_dicts: Iterable[Mapping[str, Tensor]]) -> Weights:
    """Average the weights of any number of models, key by key.

    Floating-point tensors are averaged in float64, and then rounded to their own dtype. Of integers and booleans the
    **maximum** is taken: a buffer such as ``num_batches_tracked`` counts, and the average has seen as much as the model
    that has seen most; a mean need not be a whole number, and a sum would grow each time that it is shared.

    Args:
        state_dicts: at least one, of models that agree in keys, shapes and dtypes; on any device.

    Returns:
        New CPU tensors, under the keys of the first.

    Raises:
        ConfigError: there is nothing to average, or something that is no ``state_dict``.
        CheckpointMismatchError: they are not of one model; the message names the keys that differ.

    >>> average_weights([{"bias": torch.tensor([1.0])}, {"bias": torch.tensor([2.0])}])
    {'bias': tensor([1.5000])}
    """
    # A dictionary in the place of the list would be taken for a list of its keys.
    listed = [] if isinstance(state_dicts, Mapping) else list(state_dicts)
    if not listed:
        raise ConfigError("There are no weights to average. Give a list of at least one state_dict.")
    for number, weights in enumerate(listed):
        _check_are_tensors(weights, f"state_dicts[{number}]")
        check_alike(weights, listed[0], f"state_dicts[{number}] does not fit state_dicts[0]")
    return {name: _average([weights[name].detach().cpu() for weights in listed]) for name in listed[0]}


def check_alike(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], failure: str) -> None:
    """Refuse weights whose keys, shapes or dtypes are not the wanted ones.

    Args:
        given: weights by name.
        wanted: what they should be like.
        failure: how the message begins.

    Raises:
        CheckpointMismatchError: they differ; the message names up to eight of the keys. Take weights of the same model.
    """
    problems = [f"missing: {name}" for name in wanted if name not in given]
    problems += [f"unexpected: {name}" for name in given if name not in wanted]
    for name in (name for name in wanted if name in given):
        is_now, should_be = (f"{tuple(side[name].shape)} {side[name].dtype}" for side in (given, wanted))
        if is_now != should_be:
            problems.append(f"{name} is {is_now} and not {should_be}")
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise CheckpointMismatchError(f"{failure}: {shown}. Take weights of the same model, with the same sizes.")


def copy_to_cpu(value: Any) -> Any:
    """Copy the tensors in a ``state_dict``, which nests dictionaries and lists."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copy_to_cpu(part) for key, part in value.items()}
    return [copy_to_cpu(part) for part in value] if isinstance(value, list) else value


def _average(tensors: list[Tensor]) -> Tensor:
    dtype = tensors[0].dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        return reduce(torch.maximum, tensors).clone()
    exact = torch.complex128 if dtype.is_complex else torch.float64
    return (reduce(torch.add, (tensor.to(exact) for tensor in tensors)) / len(tensors)).to(dtype)


def _check_are_tensors(weights: Any, name: str) -> None:
    if not isinstance(weights, Mapping):
        raise ConfigError(
            f"{name} is of the type {type(weights).__name__}, and no state_dict. Give model.state_dict(), and "
            "call ray.get on the reference to one."
        )
    for key, value in weights.items():
        if not isinstance(value, Tensor):
            raise ConfigError(f"{name}[{key!r}] is of the type {type(value).__name__}, and no tensor. Leave it out.")
