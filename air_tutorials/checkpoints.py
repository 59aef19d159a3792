"""Save and load weights in a directory: weights only, whatever wrapped the model, with errors that name the keys."""

import errno
import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from air_tutorials.errors import (
    CheckpointError,
    CheckpointMismatchError,
    DamagedCheckpointError,
    MissingCheckpointError,
    UnsafeCheckpointError,
)

WEIGHTS_FILE = "model.pt"
TRAINING_STATE_FILE = "training_state.pt"

# What DistributedDataParallel and DataParallel, and what torch.compile, put before every key.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")
# Where training scripts commonly keep the weights inside a larger dictionary.
_WEIGHT_ENTRIES = ("state_dict", "model_state_dict", "model")


class CheckpointLike(Protocol):
    """Anything that can show itself as a local directory, such as ``ray.train.Checkpoint``."""

    def as_directory(self) -> AbstractContextManager[str]:
        """Yield a local path, fetched from the run's storage where that is elsewhere."""


Source = str | os.PathLike[str] | CheckpointLike


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside ``DistributedDataParallel``, ``DataParallel`` and ``torch.compile``, or itself.

    >>> unwrap_model(nn.DataParallel(nn.Linear(2, 1)))
    Linear(in_features=2, out_features=1, bias=True)
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


def save_checkpoint(
    directory: str | os.PathLike[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    next_epoch: int | None = None,
) -> Path:
    """Write a model's weights, and what training needs to go on, into a directory.

    Args:
        directory: created if missing. Each file replaces an older one in a single step, so that a crash leaves the
            old or the new file and never half of one.
        model: saved without its wrappers, as CPU tensors.
        optimizer: left out, the checkpoint serves inference only.
        next_epoch: the epoch to go on with, counted from 0.

    Returns:
        The directory.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu() for name, tensor in unwrap_model(model).state_dict().items()}
    _save(weights, directory / WEIGHTS_FILE)
    if optimizer is not None:
        _save({"optimizer": optimizer.state_dict(), "next_epoch": next_epoch}, directory / TRAINING_STATE_FILE)
    return directory


def load_weights(source: Source, model: nn.Module) -> nn.Module:
    """Load saved weights into a model.

    Args:
        source: a directory written by ``save_checkpoint``, a weights file of any PyTorch program, or a
            ``ray.train.Checkpoint``. Prefixes of wrappers are stripped.
        model: receives the weights, on the device that it lies on; it may be wrapped.

    Returns:
        The same model.

    Raises:
        MissingCheckpointError: nothing is saved there; look at the path.
        DamagedCheckpointError: the file is truncated or no checkpoint; use an older one.
        CheckpointError: it may not be read, or its disk does not answer; nothing is said of what it holds.
        UnsafeCheckpointError: the file holds objects other than weights; ask its author for a ``state_dict``.
        CheckpointMismatchError: keys or shapes differ from the model's; build the model that was saved.
    """
    with _as_directory(source) as path:
        weights_path = Path(path) / WEIGHTS_FILE if Path(path).is_dir() else Path(path)
        saved = _load(weights_path)
    target = unwrap_model(model)
    weights = _strip_wrappers(saved, target.state_dict().keys(), weights_path)
    _check_fits(weights, target, weights_path)
    target.load_state_dict(weights)
    return model


def load_checkpoint(source: Source, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load weights and optimizer state, and tell with which epoch training goes on.

    Args:
        source: a directory written by ``save_checkpoint`` with an optimizer, or a ``ray.train.Checkpoint``.
        model: receives the weights.
        optimizer: receives its state; it must already hold the model's parameters.

    Returns:
        The epoch to go on with, counted from 0.

    Raises:
        CheckpointMismatchError: the optimizer has other parameters, or the checkpoint no epoch.
        CheckpointError: see ``load_weights``.
    """
    with _as_directory(source) as path:
        load_weights(path, model)
        state_path = Path(path) / TRAINING_STATE_FILE
        state = _load(state_path)
    try:
        optimizer.load_state_dict(state["optimizer"])
        return int(state["next_epoch"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointMismatchError(
            f"{state_path.name} does not fit this training: {error}. Resume with the optimizer it was saved from, "
            "or start anew from the weights with load_weights()."
        ) from error


def _as_directory(source: Source) -> AbstractContextManager[str | os.PathLike[str]]:
    # ray.train.Checkpoint has __fspath__ too, which raises.
    return source.as_directory() if hasattr(source, "as_directory") else nullcontext(source)


def _save(value: Any, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _load(path: Path) -> Any:
    if not path.is_file():
        raise MissingCheckpointError(f"No checkpoint at {path}: the file does not exist. Look at the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol: what matters of a file is raised below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # A pickle that names a class or function, in any protocol; torch's own text advises to load it regardless.
        names_code = any(sign in str(error) for sign in ("GLOBAL", "Unsupported class", "Unsupported operand"))
        # A truncated archive is no archive any more, and its first letters, PK, are then read as a pickle.
        if names_code and not _is_cut_archive(path):
            raise UnsafeCheckpointError(
                f"{path} holds more than weights, and loading it could run code that somebody put there. "
                "It was not loaded. Ask its author for torch.save(model.state_dict(), …)."
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # damaged bytes make the reader fail in every way there is
        raise _damaged(path, error) from error


def _is_cut_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return b"PK".startswith(file.read(2)) and not zipfile.is_zipfile(path)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the disk, not the bytes
        return CheckpointError(f"{path} cannot be read: {error.strerror}. Get the right to, or try again later.")
    reason = (str(error) or type(error).__name__).split("WeightsUnpickler error: ")[-1].splitlines()[0]
    return DamagedCheckpointError(
        f"{path} ({path.stat().st_size:,} bytes) is truncated or no PyTorch checkpoint: {reason[:200]}. "
        "Use an older checkpoint of the run, or save it again."
    )


def _strip_wrappers(saved: Any, wanted: Collection[str], path: Path) -> dict[str, Tensor]:
    for entry in _WEIGHT_ENTRIES:
        if isinstance(saved, Mapping) and isinstance(saved.get(entry), Mapping):
            saved = saved[entry]
    named = isinstance(saved, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in saved.items())
    if not named:
        raise DamagedCheckpointError(
            f"{path} holds a {type(saved).__name__} that is no state_dict (names to tensors). "
            "Save it with torch.save(model.state_dict(), …)."
        )
    weights = {}
    for name, tensor in saved.items():
        # A model may have a part of its own that is called `module`.
        while name not in wanted and name.startswith(_WRAPPER_PREFIXES):
            name = name.split(".", 1)[1]
        weights[name] = tensor
    return weights


def _check_fits(weights: Mapping[str, Tensor], model: nn.Module, path: Path) -> None:
    wanted = model.state_dict()
    problems = [f"missing: {name}" for name in wanted if name not in weights]
    problems += [f"unexpected: {name}" for name in weights if name not in wanted]
    problems += [
        f"shape of {name}: saved {tuple(weights[name].shape)}, model {tuple(wanted[name].shape)}"
        for name in wanted
        if name in weights and weights[name].shape != wanted[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise CheckpointMismatchError(
            f"The weights in {path.name} do not fit {type(model).__name__}: {shown}. "
            "Build the model that was saved, with the same sizes."
        )
