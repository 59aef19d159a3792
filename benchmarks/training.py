"""``fit()`` against ``torchrun`` with hand-written DDP: to the first step, between steps, after the last one."""

import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from ray.train import RunConfig, ScalingConfig

from air_tutorials import trainer
from air_tutorials.cluster import local_cluster
from benchmarks.marks import Marks, Run, read_run
from benchmarks.measure import Curve, Row, Settings, alternate, python

_BATCH_SIZE = 64
_LR = 0.1
_TORCHRUN = "`torchrun`, hand-written DDP"


def measure(settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Train page 1's program with two workers under Ray, under ``torchrun``, and without a loader."""
    local_cluster(num_cpus=4)
    epochs = settings.pick(3, 2)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        fit(root, 1)  # from now on the cluster is warm: Ray's processes run, files are in memory
        contenders = {
            "Ray Train, 2 workers": lambda: [fit(root, epochs)],
            "torchrun: DDP; the limit": lambda: torchrun_and_limit(root, epochs),
        }
        runs = alternate(contenders, settings.pairs, _show)
    ray_train = [run for (run,) in runs["Ray Train, 2 workers"]]
    ddp, limit = (list(each) for each in zip(*runs["torchrun: DDP; the limit"], strict=True))
    threads = {run.num_threads for run in [*ray_train, *ddp, *limit]}
    steps = {run.num_steps for run in [*ray_train, *ddp, *limit]}
    assert len(threads) == len(steps) == 1, f"not the same work: {threads} threads, {steps} steps"
    same = (
        f"Page 1's program, {epochs} epochs of {steps.pop() // epochs} steps, global batch {_BATCH_SIZE}, "
        f"{threads.pop()} thread for each worker on both sides."
    )
    return rows_of(ray_train, ddp, limit, same), []


def rows_of(ray_train: list[Run], ddp: list[Run], limit: list[Run], same: str) -> list[Row]:
    """Turn the runs into four rows of the table."""
    return [
        Row(
            "from `fit()` to the first step, warm cluster, 2 workers",
            _TORCHRUN,
            "s",
            [run.to_first_step_s for run in ray_train],
            [run.to_first_step_s for run in ddp],
            at_most=1.3,
            note=same,
        ),
        Row(
            "from the last step until `fit()` returned",
            _TORCHRUN,
            "s",
            [run.after_last_step_s for run in ray_train],
            [run.after_last_step_s for run in ddp],
            compare="difference",
            at_most=1.0,
            note="With the last test, the last checkpoint, and the end of the processes.",
        ),
        Row(
            "training, 2 workers",
            _TORCHRUN,
            "images/s",
            [run.images_per_s for run in ray_train],
            [run.images_per_s for run in ddp],
            at_least=0.98,
            note="Between an epoch's first and last step; the median over all epochs but the first.",
        ),
        Row(
            "training, 2 workers",
            "the limit: the same DDP step on batches in memory",
            "images/s",
            [run.images_per_s for run in ray_train],
            [run.images_per_s for run in limit],
            at_least=0.9,
            note="What is missing is the loader's share.",
        ),
    ]


def fit(root: Path, epochs: int) -> Run:
    """Train on two workers of Ray, as page 1 does."""
    marks = root / f"{uuid.uuid4().hex}.jsonl"
    started = time.time()
    trainer.make_trainer(
        trainer.train_func,
        train_loop_config={"lr": _LR, "batch_size": _BATCH_SIZE, "epochs": epochs, "on_step": Marks(marks)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(root)),
    ).fit()
    return read_run(marks, started, time.time(), _BATCH_SIZE)


def torchrun_and_limit(root: Path, epochs: int) -> list[Run]:
    """Train with hand-written DDP, and let the same processes then take the same steps on batches in memory."""
    limit_marks = root / f"{uuid.uuid4().hex}.jsonl"
    run = torchrun("ddp", root, epochs, f"--limit-marks={limit_marks}")
    return [run, read_run(limit_marks, 0, time.time(), _BATCH_SIZE)]


def torchrun(twin: str, root: Path, epochs: int, *options: str) -> Run:
    """Train with two processes that ``torchrun`` starts.

    Args:
        twin: ``"ddp"``, ``"accelerate"``, or ``"fabric"``; see ``run_twin.py``.
        root: a directory; the checkpoint goes to one of its own below it.
        epochs: how many.
        options: more of ``run_twin.py``.
    """
    name = uuid.uuid4().hex
    arguments = ["-m", "benchmarks.run_twin", twin, f"--batch-size={_BATCH_SIZE}", f"--epochs={epochs}"]
    arguments += [f"--save-to={root / name}", f"--marks={root / name}.jsonl", *options]
    command, where = python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments)
    started = time.time()
    done = subprocess.run(command, capture_output=True, text=True, **where)
    ended = time.time()
    assert done.returncode == 0, done.stderr[-2000:]
    return read_run(root / f"{name}.jsonl", started, ended, _BATCH_SIZE)


def _show(runs: list[Run]) -> str:
    first, *limit = runs
    shown = f"{first.to_first_step_s:.1f} s, {first.images_per_s:,.0f}/s, {first.after_last_step_s:.1f} s"
    return "; ".join([shown, *(f"{run.images_per_s:,.0f}/s" for run in limit)])
