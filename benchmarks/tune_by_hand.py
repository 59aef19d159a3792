"""The same trials without Ray: configurations drawn beforehand, and page 4's training function for Optuna."""

import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from torch import nn
from torch.utils.data import DataLoader

from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.loops import test_epoch, train_epoch
from air_tutorials.models import Net
from air_tutorials.trials import shuffled

_SEEDED = threading.Lock()


def draw_configs(count: int) -> list[dict[str, Any]]:
    """Draw configurations from page 4's search space, the same on every call.

    Args:
        count: how many.
    """
    random = np.random.default_rng(0)
    return [
        {
            "l1": int(2 ** random.integers(2, 9)),
            "l2": int(2 ** random.integers(2, 9)),
            "lr": float(10 ** random.uniform(-4, -1)),
            "batch_size": int(random.choice([16, 32, 64])),
        }
        for _ in range(count)
    ]


def tune_with_optuna(configs: list[dict[str, Any]], max_epochs: int, data: Any, root: Path) -> list[int]:
    """Run the trials as two jobs, with early stopping by successive halving, as Tune does it with ASHA.

    The two differ in who counts: ASHA compares a trial with those that came before it, Optuna also with itself.

    Args:
        configs: one for each trial.
        max_epochs: what a trial trains that is never stopped.
        data: training and validation images.
        root: a directory; each trial keeps its checkpoint in one of its own below it.

    Returns:
        How many epochs each trial trained.
    """
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    study = optuna.create_study(direction="minimize", pruner=pruner)
    for number, _ in enumerate(configs):
        study.enqueue_trial({"number": number})
    epochs = [0] * len(configs)

    def objective(trial: optuna.Trial) -> float:
        number = trial.suggest_int("number", 0, len(configs) - 1)
        return _train(configs[number], max_epochs, data, root / uuid.uuid4().hex, trial, epochs, number)

    study.optimize(objective, n_trials=len(configs), n_jobs=2)
    return epochs


def _train(
    config: dict[str, Any],
    max_epochs: int,
    data: Any,
    save_to: Path,
    trial: optuna.Trial,
    epochs: list[int],
    number: int,
) -> float:
    """Do what ``trials.train_alone`` does, and ask Optuna after each epoch whether to go on."""
    training, validation = data
    with _SEEDED:  # the two threads draw from one generator
        torch.manual_seed(0)
        model = Net(config["l1"], config["l2"])
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    loss = float("nan")
    for epoch in range(max_epochs):
        train_epoch(shuffled(training, config["batch_size"], epoch), model, loss_fn, optimizer)
        loss = test_epoch(DataLoader(validation, batch_size=256), model, loss_fn).loss
        save_checkpoint(save_to, model, optimizer, next_epoch=epoch + 1)
        epochs[number] = epoch + 1
        trial.report(loss, epoch + 1)
        if trial.should_prune():
            raise optuna.TrialPruned
    return loss
