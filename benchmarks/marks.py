"""When training took its steps, as the first process saw it: written down by the training itself, on either side."""

import json
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.distributed


class Marks:
    """An ``on_step`` that notes the time of the first and the last step of each epoch in a file; rank 0 alone does.

    Args:
        path: a line is appended to it at the end of each epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._first = 0.0

    def __call__(self, epoch: int, step: int, num_steps: int, _loss: object) -> None:
        """Note a step that was taken."""
        if step not in (0, num_steps - 1):
            return
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        if step == 0:
            self._first = time.time()
        if step == num_steps - 1:
            line = {"epoch": epoch, "first": self._first, "last": time.time(), "num_steps": num_steps}
            line["num_threads"] = torch.get_num_threads()
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


class Run(NamedTuple):
    """What a training of some epochs took.

    Attributes:
        to_first_step_s: from its start to the end of its first step, in seconds.
        after_last_step_s: from the end of its last step until it had ended, with the last test and checkpoint.
        images_per_s: between the first and the last step of an epoch, the median over epochs but the first.
        num_steps: of all epochs.
        num_threads: of the process that noted the steps.
    """

    to_first_step_s: float
    after_last_step_s: float
    images_per_s: float
    num_steps: int
    num_threads: int


def read_run(path: Path, started: float, ended: float, batch_size: int) -> Run:
    """Read what ``Marks`` wrote, and leave out a pause that the program noted at its end.

    Args:
        path: of its file.
        started: when the training was started, in seconds since 1970.
        ended: when it had ended.
        batch_size: images in a step, of all processes.
    """
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    epochs = [line for line in lines if "epoch" in line]
    paused_s = sum(line.get("paused_s", 0.0) for line in lines)
    steady = epochs[1:] or epochs
    speeds = [(epoch["num_steps"] - 1) * batch_size / (epoch["last"] - epoch["first"]) for epoch in steady]
    return Run(
        to_first_step_s=epochs[0]["first"] - started,
        after_last_step_s=ended - epochs[-1]["last"] - paused_s,
        images_per_s=median(speeds),
        num_steps=sum(epoch["num_steps"] for epoch in epochs),
        num_threads=epochs[0]["num_threads"],
    )
