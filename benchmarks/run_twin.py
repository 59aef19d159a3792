"""What ``torchrun`` starts: a process of one of page 1's twins, and then of the bare step, which none can beat."""

import argparse
import importlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from air_tutorials.baseline import load_data
from air_tutorials.loops import train_epoch
from air_tutorials.models import NeuralNetwork
from benchmarks.marks import Marks
from benchmarks.programs import make_double_model


def main() -> None:
    """Train as the command line says, in single or in double precision."""
    parser = argparse.ArgumentParser()
    parser.add_argument("twin", choices=["ddp", "accelerate", "fabric"])
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--save-to", type=Path, required=True)
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--limit-marks", type=Path, help="take the bare steps afterwards, and write their marks here")
    parser.add_argument("--double", action="store_true", help="train in double precision, to compare weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config: dict[str, Any] = {"lr": 0.1, "batch_size": arguments.batch_size, "epochs": arguments.epochs}
    config |= {"save_to": arguments.save_to, "on_step": Marks(arguments.marks)}
    if arguments.double:
        config["make_model"] = make_double_model
    importlib.import_module(f"benchmarks.with_{arguments.twin}").train_func(config)
    if arguments.limit_marks:
        started = time.time()
        train_on_data_in_memory({**config, "on_step": Marks(arguments.limit_marks)}, arguments.limit_marks)
        if os.environ["RANK"] == "0":
            with arguments.marks.open("a") as file:  # what the end of the program had to wait for
                file.write(json.dumps({"paused_s": time.time() - started}) + "\n")


def train_on_data_in_memory(config: dict[str, Any], meet_at: Path) -> None:
    """Take the steps of ``with_ddp.py`` on batches that lie ready: no loader, no test, no checkpoint.

    Args:
        config: as there.
        meet_at: a new path, beside which the processes find each other. Where the group before met, the addresses of
            that one may still lie, and now and then two processes waited for each other for ever.
    """
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    where = f"file://{meet_at.absolute()}.store"
    torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=world_size)
    torch.manual_seed(0)
    dataset = load_data()[0]
    indices = torch.arange(rank, len(dataset), world_size)
    batches = [dataset.__getitems__(part) for part in indices.split(config["batch_size"] // world_size)]
    batches = [(batch.images, batch.labels) for batch in batches]
    model = torch.nn.parallel.DistributedDataParallel(NeuralNetwork())
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    for epoch in range(config["epochs"]):
        train_epoch(batches, model, torch.nn.CrossEntropyLoss(), optimizer, partial(config["on_step"], epoch))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
