"""Say beforehand, with the arithmetic, what can never fit, where Ray would wait for ever."""

import math
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from air_tutorials.errors import ClusterError, PreflightError

if TYPE_CHECKING:  # importing ray.train takes half a second, and who has a ScalingConfig has done it
    from ray.train import ScalingConfig

_LARGEST_BATCH_TO_ADVISE = 100_000


def preflight(
    scaling_config: "ScalingConfig",
    *,
    batch_size: int | None = None,
    storage_path: str | os.PathLike[str] | None = None,
) -> None:
    """Refuse at once, with the arithmetic, what this cluster can never do, where Ray would wait for ever.

    It counts what the nodes have, not what is free just now, and starts nothing. A cluster that adds nodes on demand
    is judged by the nodes that it has at the moment: to let it grow, call Ray's trainer without this check.

    Args:
        scaling_config: how many workers, and what each needs. Of an elastic ``num_workers=(min, max)`` the minimum must
            fit; ``num_workers=0`` runs in this process and needs nothing.
        batch_size: global batch size, in samples, of which each worker takes an equal share, however many there are.
        storage_path: where results go. A local directory is tried by writing a file and removing it again; a URI such
            as ``s3://bucket/runs`` is left to Ray.

    Raises:
        PreflightError: something can never fit. The message lists everything that does not, each with its mend.
        ClusterError: Ray is not running; call ``local_cluster()`` first.
    """
    num_workers = scaling_config.min_workers
    problems = []
    if num_workers > 0:
        needs = scaling_config._resources_per_worker_not_none
        problems += _worker_problems(num_workers, needs, scaling_config.placement_strategy)
    if batch_size is not None:
        problems += _batch_problems(batch_size, max(num_workers, 1), max(scaling_config.max_workers, 1))
    if storage_path is not None:
        problems += _storage_problems(os.fspath(storage_path))
    if problems:
        raise PreflightError(" ".join(problems))


def check_workers_fit(num_workers: int, resources_per_worker: Mapping[str, float]) -> None:
    """Refuse at once a number of workers for which the nodes have no room.

    Args:
        num_workers: at least 1.
        resources_per_worker: what each takes, such as ``{"CPU": 1, "GPU": 1}``.

    Raises:
        PreflightError: they do not fit; the message has the arithmetic and the mend.
        ClusterError: Ray is not running; call ``local_cluster()`` first.
    """
    needs = {name: amount for name, amount in resources_per_worker.items() if amount > 0}
    if problems := _worker_problems(num_workers, needs, strategy="PACK"):
        raise PreflightError(" ".join(problems))


def count_workers_that_fit(resources_per_worker: Mapping[str, float]) -> int:
    """Count the workers for which the nodes have room when nothing else runs.

    Args:
        resources_per_worker: what each takes, such as ``{"CPU": 1, "GPU": 1}``; at least one amount above 0.

    Raises:
        ClusterError: Ray is not running; call ``local_cluster()`` first.
    """
    return _room(_resources_of_nodes(), resources_per_worker, strategy="PACK")


def check_storage(storage_path: str | os.PathLike[str]) -> None:
    """Refuse at once a place that cannot hold results.

    Args:
        storage_path: an absolute local directory, which is tried by writing a file and removing it again, or a URI
            such as ``s3://bucket/runs``, which is left to Ray.

    Raises:
        PreflightError: it cannot be made or written; the message has the reason and the mend.
    """
    if problems := _storage_problems(os.fspath(storage_path)):
        raise PreflightError(" ".join(problems))


def cpus_of_nodes() -> list[float]:
    """Return how many CPUs each node of the cluster has, used or not.

    Raises:
        ClusterError: Ray is not running; call ``local_cluster()`` first.
    """
    return [node.get("CPU", 0.0) for node in _resources_of_nodes()]


def _worker_problems(num_workers: int, needs: Mapping[str, float], strategy: str) -> list[str]:
    nodes = _resources_of_nodes()
    short = [name for name in needs if _room(nodes, {name: needs[name]}, strategy) < num_workers]
    problems = [_shortage(num_workers, name, needs[name], nodes, strategy) for name in short]
    if not short and (room := _room(nodes, needs, strategy)) < num_workers:
        together = " and ".join(f"{amount:g} {name}" for name, amount in needs.items())
        problems.append(
            f"{num_workers} workers need {together} each, together on one node, and the nodes have room for {room}. "
            f"Set num_workers to at most {room}, or ask for less in resources_per_worker."
        )
    return problems


def _resources_of_nodes() -> list[dict[str, float]]:
    if not ray.is_initialized():
        raise ClusterError("Ray is not running. Call local_cluster() first.")
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _room(nodes: list[dict[str, float]], needs: Mapping[str, float], strategy: str) -> int:
    """Count the workers for which there is room when nothing else runs."""
    # The summand keeps 0.3 / 0.1 at 3; Ray itself counts in steps of 0.0001.
    fits = [
        min((int(node.get(name, 0) / amount + 1e-6) for name, amount in needs.items()), default=sys.maxsize)
        for node in nodes
    ]
    if strategy == "STRICT_PACK":  # all on one node
        return max(fits, default=0)
    if strategy == "STRICT_SPREAD":  # each on a node of its own
        return sum(fit > 0 for fit in fits)
    return sum(fits)


def _shortage(num_workers: int, name: str, amount: float, nodes: list[dict[str, float]], strategy: str) -> str:
    has = [node.get(name, 0) for node in nodes]
    wanted, total, room = num_workers * amount, sum(has), _room(nodes, {name: amount}, strategy)
    where = f" on {len(nodes)} nodes ({', '.join(f'{x:g}' for x in has[:8])}{', …' if has[8:] else ''})"
    rule = f" under placement_strategy={strategy!r}" if strategy.startswith("STRICT") else ""
    problem = (
        f"{num_workers} worker{'s' * (num_workers != 1)} × {amount:g} {name} = {wanted:g} {name}, but the cluster has "
        f"{total:g}{where if len(nodes) > 1 else ''}, which is room for {room}{rule}."
    )
    if name == "GPU" and not total:
        return f"{problem} Set use_gpu=False."
    less = "Ask for less" if total else "Start a node that has it, or ask for none"
    mend = f"Set num_workers to at most {room}" if room else f"{less} in resources_per_worker"
    if name == "CPU" and wanted > total and not os.environ.get("RAY_ADDRESS"):
        mend += f", or start Ray anew with local_cluster(num_cpus={math.ceil(wanted)})"
    return f"{problem} {mend}."


def _batch_problems(batch_size: int, min_workers: int, max_workers: int) -> list[str]:
    if batch_size < 1:
        return [f"batch_size is {batch_size}, and must be at least 1."]
    num_workers = next((n for n in range(min_workers, max_workers + 1) if batch_size % n), None)
    if num_workers is None:
        return []
    if min_workers < max_workers:
        multiple = math.lcm(*range(min_workers, max_workers + 1))
        sizes = f"batch_size to a multiple of {multiple}, or " if multiple <= _LARGEST_BATCH_TO_ADVISE else ""
        return [
            f"batch_size {batch_size} / {num_workers} workers = {batch_size / num_workers:.4g} samples each, and must "
            f"be a whole number for each of {min_workers} to {max_workers} workers. Set {sizes}num_workers to one."
        ]
    below = batch_size - batch_size % num_workers
    sizes = f"{below} or {below + num_workers}" if below else f"{num_workers}"
    divisors = [str(number) for number in range(1, 2 * num_workers) if batch_size % number == 0]
    return [
        f"batch_size {batch_size} / {num_workers} workers = {batch_size / num_workers:.4g} samples each, and must be a "
        f"whole number. Set batch_size to {sizes}, or num_workers to {' or '.join(divisors)}."
    ]


def _storage_problems(storage_path: str) -> list[str]:
    if "://" in storage_path and not storage_path.startswith("file://"):
        return []
    path = Path(storage_path.removeprefix("file://")).expanduser()
    if not Path(storage_path.removeprefix("file://")).is_absolute():
        return [f"storage_path {storage_path!r} is relative, and Ray takes absolute ones: set it to {path.resolve()}."]
    try:
        directory = path if path.exists() else path.parent
        if not directory.is_dir():
            return [f"storage_path {path} cannot be made: {directory} is no directory. Create it, or mend the path."]
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".preflight-") as file:
            file.write(b"x")
    except OSError as error:
        return [f"storage_path {path} cannot be written: {error.strerror}. Choose a directory that you may write to."]
    return []
