"""A million rows of Parquet through page 1's model: ``BatchPredictor`` against two processes written by hand."""

import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
import ray.data
import torch
from ray.data.extensions import ArrowTensorArray

from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.cluster import local_cluster
from air_tutorials.datasets import load_fashion_mnist
from air_tutorials.models import NeuralNetwork
from air_tutorials.predictor import BatchPredictor
from benchmarks.measure import Curve, Row, Settings, alternate, fit_line, python, spread
from benchmarks.memory import PeakMemory
from benchmarks.predict_by_hand import BATCH_SIZE

_ROWS_PER_FILE = 25_000
_MIB = 2**20


class Run(NamedTuple):
    """What one prediction of all rows took.

    Attributes:
        rows_per_s: read, predicted, and written.
        peak_mib: of all processes and the object store together, in MiB; 0 when it was not looked at.
        class_counts: how many rows were given each class: the same for the same work.
    """

    rows_per_s: float
    peak_mib: float
    class_counts: list[int]


def measure(settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Predict a tenth and all of the rows with Ray, all of them by hand, and a tenth with more and fewer workers."""
    local_cluster(num_cpus=4)
    few, many = sizes = settings.pick([100_000, 1_000_000], [5_000, 20_000])
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        weights = save_weights(root)
        files = {count: write_rows(root / f"{count} rows", count) for count in sizes}
        predict_with_ray(files[few], weights, root)  # the first one imports, and starts processes
        contenders = {
            f"Ray, {count:,} rows": lambda c=count: predict_with_ray(files[c], weights, root) for count in (few, many)
        }
        contenders["two processes by hand"] = lambda: predict_by_hand(files[many], weights, root)
        runs = alternate(contenders, settings.pairs, _show)
        growing = {n: lambda n=n: predict_with_ray(files[few], weights, root, n) for n in settings.pick([1, 4], [1])}
        by_workers = alternate({f"Ray, {few:,} rows, {n} worker(s)": run for n, run in growing.items()}, 1, _show)
    by_hand = runs.pop("two processes by hand")
    with_few, with_many = runs.values()
    by_size = {few: with_few, many: with_many}
    check_same_work(by_size[many] + by_hand)
    rows = [_speed_row(by_size[many], by_hand, many), _memory_row(by_size[few], by_size[many], few, many)]
    rows.append(_growth_row(by_size))
    speeds = {2: with_few} | dict(zip(growing, by_workers.values(), strict=True))
    workers = sorted(speeds)
    medians = [spread([run.rows_per_s for run in speeds[n]]).median for n in workers]
    return rows, [Curve("workers", f"rows/s of {few:,} rows", [float(n) for n in workers], medians)]


def check_same_work(runs: list[Run]) -> None:
    """Make sure that every run gave each class to as many rows."""
    counts = {tuple(run.class_counts) for run in runs}
    assert len(counts) == 1, f"not the same predictions: {counts}"


def save_weights(root: Path) -> Path:
    """Save page 1's model, untrained: what it answers does not matter here."""
    torch.manual_seed(0)
    return save_checkpoint(root / "weights", NeuralNetwork())


def write_rows(directory: Path, count: int) -> Path:
    """Write the embedded images as often as it takes to Parquet files: ``id``, and ``image``, 784 bytes.

    Args:
        directory: is created.
        count: of rows.
    """
    images = load_fashion_mnist().images.numpy()
    directory.mkdir()
    for first in range(0, count, _ROWS_PER_FILE):
        ids = np.arange(first, min(first + _ROWS_PER_FILE, count))
        image = ArrowTensorArray.from_numpy(images[ids % len(images)])
        table = pyarrow.table({"id": ids, "image": image})
        pyarrow.parquet.write_table(table, directory / f"{first:09}.parquet")
    return directory


def predict_with_ray(files: Path, weights: Path, root: Path, num_workers: int = 2) -> Run:
    """Read, predict and write with ``BatchPredictor``, on a cluster that runs already."""
    out = root / uuid.uuid4().hex
    with PeakMemory() as memory:
        started = time.perf_counter()
        predictor = BatchPredictor.from_checkpoint(weights, NeuralNetwork)
        dataset = ray.data.read_parquet(str(files))
        predictions = predictor.predict(
            dataset, keep_columns=["id"], batch_size=BATCH_SIZE, num_workers=num_workers, batches_per_block=16
        )
        predictions.write_parquet(str(out))
        took = time.perf_counter() - started
    return _run(out, took, memory.peak_bytes)


def predict_by_hand(files: Path, weights: Path, root: Path) -> Run:
    """Read, predict and write with two processes, each of which takes every second file."""
    out = root / uuid.uuid4().hex
    out.mkdir()
    arguments = [f"--files={files}", f"--weights={weights}", f"--out={out}", "--world-size=2"]
    command, where = python("-m", "benchmarks.predict_by_hand", *arguments)
    started = time.perf_counter()
    processes = [subprocess.Popen([*command, f"--rank={rank}"], **where) for rank in range(2)]
    assert [process.wait() for process in processes] == [0, 0], "a process failed"
    return _run(out, time.perf_counter() - started, 0)


def _run(out: Path, took: float, peak_bytes: int) -> Run:
    counts = np.zeros(10, np.int64)
    for file in out.glob("*.parquet"):
        column = pyarrow.parquet.read_table(file, columns=["predictions"])["predictions"]
        for chunk in column.chunks:
            logits = getattr(chunk, "storage", chunk).flatten().to_numpy().reshape(-1, 10)
            counts += np.bincount(logits.argmax(axis=1), minlength=10)
    return Run(int(counts.sum()) / took, peak_bytes / _MIB, counts.tolist())


def _speed_row(ours: list[Run], by_hand: list[Run], count: int) -> Row:
    note = (
        f"{count:,} rows of 784 bytes read from Parquet, predicted in batches of {BATCH_SIZE:,}, written to Parquet. "
        "Ray's cluster runs already; the two processes are started. One thread for each worker on both sides, and the "
        "same classes predicted."
    )
    speeds = [[run.rows_per_s for run in runs] for runs in (ours, by_hand)]
    return Row("batch prediction, 2 workers", "two hand-written processes", "rows/s", *speeds, at_least=0.9, note=note)


def _memory_row(few_runs: list[Run], many_runs: list[Run], few: int, many: int) -> Row:
    peaks = [[run.peak_mib for run in runs] for runs in (many_runs, few_runs)]
    note = "What the driver and all of Ray's processes hold for themselves, and what lies in the object store."
    what = f"peak memory of a batch prediction, {many:,} rows"
    return Row(what, f"itself, {few:,} rows", "MiB", *peaks, at_most=1.2, note=note)


def _growth_row(by_size: dict[int, list[Run]]) -> Row:
    counts = [float(count) for count, runs in by_size.items() for _ in runs]
    times = [count / run.rows_per_s for count, runs in by_size.items() for run in runs]
    slope, at_zero, explained = fit_line(counts, times)
    sizes = list(by_size)
    note = (
        f"A straight line through {len(times)} runs of {', '.join(f'{count:,}' for count in sizes)} rows: "
        f"{at_zero:.1f} s and {slope * 1e6:.1f} s for each million rows, R² = {explained:.3f}."
    )
    ours, peers = ([sizes[i] / run.rows_per_s for run in by_size[sizes[i]]] for i in (-1, 0))
    return Row(f"growth: {sizes[-1]:,} rows", f"itself, {sizes[0]:,} rows", "s", ours, peers, note=note)


def _show(run: Run) -> str:
    return f"{run.rows_per_s:,.0f} rows/s" + (f", {run.peak_mib:,.0f} MiB" if run.peak_mib else "")
