"""Starting Ray quietly and on loopback only, or joining a cluster that runs, or saying at once that there is none."""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from air_tutorials.cluster import local_cluster
from air_tutorials.errors import ConfigError


def environment(**variables: str) -> dict[str, str]:
    """What a fresh program sees: nothing that Ray, running in this process, has set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "GLOO_", "NCCL_"))}
    return inherited | variables


def run_script(script: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, timeout=120, check=False
    )


def test_second_call_returns_the_cluster_that_runs(cluster: dict[str, float]) -> None:
    assert cluster["CPU"] == 4
    assert local_cluster() == local_cluster(num_cpus=4) == cluster


def test_another_number_of_cpus_is_refused(cluster: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"num_cpus is 3, but .* 4 CPUs"):
        local_cluster(num_cpus=3)
    with pytest.raises(ConfigError, match="num_cpus is 0, and must be at least 1"):
        local_cluster(num_cpus=0)


def test_starts_quietly_on_loopback_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ray Data is imported before, an actor pool is run, and the program ends with an exception: all in one start."""
    script = """
        import json, sys, psutil, ray.data
        from air_tutorials.cluster import local_cluster
        assert local_cluster(num_cpus=3)["CPU"] == 3
        class Double:
            def __call__(self, batch):
                return {"id": 2 * batch["id"]}
        pool = ray.data.ActorPoolStrategy(size=2)
        numbers = ray.data.range(10, override_num_blocks=4).repartition(target_num_rows_per_block=1)
        assert numbers.map_batches(Double, compute=pool, num_cpus=0.5).sum("id") == 90
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        sockets = [c.laddr.ip for process in processes for c in process.net_connections() if c.status == "LISTEN"]
        with open(sys.argv[1], "w") as file:
            json.dump({"sockets": sockets, "pids": [process.pid for process in processes]}, file)
        raise RuntimeError("the reader's own mistake")
    """
    ended = run_script(script, tmp_path / "seen.json")
    assert ended.stdout == ""
    assert re.fullmatch(r"Traceback[^\n]*\n(  [^\n]*\n)+RuntimeError: the reader's own mistake\n", ended.stderr)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert len(seen["sockets"]) > 5
    assert {address.removeprefix("::ffff:") for address in seen["sockets"]} == {"127.0.0.1"}
    assert len(seen["pids"]) > 5
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in seen["pids"] if psutil.pid_exists(pid)], timeout=20)
    assert not alive


def test_a_process_that_dies_is_an_exception_and_nothing_else() -> None:
    """Ray tells of it through a thread of its own, which would print in the middle of whatever comes next."""
    script = """
        import os, signal, time, ray
        from air_tutorials.cluster import local_cluster
        local_cluster(num_cpus=1)
        try:
            ray.get(ray.remote(max_retries=0)(lambda: os.kill(os.getpid(), signal.SIGKILL)).remote())
        except ray.exceptions.WorkerCrashedError:
            time.sleep(2)
            print("died")
    """
    assert run_script(script).stdout == "died\n"


def test_without_a_cluster(tmp_path: Path) -> None:
    script = """
        from ray.train import ScalingConfig
        from air_tutorials.cluster import preflight
        preflight(ScalingConfig(num_workers=0), batch_size=3)
        preflight(ScalingConfig(num_workers=1))
    """
    assert "ClusterError: Ray is not running. Call local_cluster() first." in run_script(script).stderr


JOIN = "from air_tutorials.cluster import local_cluster; local_cluster()"


def test_address_where_nothing_is() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        ended = run_script(JOIN, RAY_ADDRESS=address)
    assert f"ClusterError: No cluster could be joined at RAY_ADDRESS={address}: [Errno" in ended.stderr
    assert "unset it to start Ray on this machine" in ended.stderr


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_address_of_another_program(answer: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-c", JOIN]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment(RAY_ADDRESS=address), stderr=pipe, text=True) as joining:
            connection, _ = server.accept()
            with connection:
                if answer:
                    connection.sendall(answer)
                _, stderr = joining.communicate(timeout=60)
    assert f"ClusterError: No cluster could be joined at RAY_ADDRESS={address}" in stderr


START_TWO_NODES = """
    import sys
    from ray.cluster_utils import Cluster
    two_nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    two_nodes.add_node(num_cpus=2, resources={"disk": 7})
    print(two_nodes.address, flush=True)
    sys.stdin.read()
    two_nodes.shutdown()
"""
JOIN_TWO_NODES = """
    from ray.train import ScalingConfig
    from air_tutorials.cluster import local_cluster, preflight
    assert local_cluster(num_cpus=1)["CPU"] == 4, "a cluster that runs keeps its number"
    preflight(ScalingConfig(num_workers=2, resources_per_worker={"CPU": 2}))
    preflight(ScalingConfig(num_workers=2, placement_strategy="STRICT_SPREAD"))
    preflight(ScalingConfig(num_workers=25, resources_per_worker={"CPU": 0, "disk": 0.28}))
    for config in (
        ScalingConfig(num_workers=1, resources_per_worker={"CPU": 3}),
        ScalingConfig(num_workers=3, placement_strategy="STRICT_SPREAD"),
        ScalingConfig(num_workers=3, placement_strategy="STRICT_PACK"),
        ScalingConfig(num_workers=3, resources_per_worker={"CPU": 1, "disk": 0.25}),
    ):
        try:
            preflight(config)
        except Exception as error:
            print(error)

    import ray.data, torch
    from air_tutorials.predictor import BatchPredictor
    rows = ray.data.range(100).map_batches(lambda batch: {"x": batch["id"].astype("float32")})
    predictor = BatchPredictor(torch.nn.Linear(1, 1).state_dict(), lambda: torch.nn.Linear(1, 1))
    predictions = predictor.predict(rows, feature_columns="x", batch_size=10, num_workers=4)
    print(len(predictions.take_all()), "rows by 4 workers, and a CPU is left to read them")
"""


def test_joins_a_cluster_of_two_nodes() -> None:
    """What fits is counted node by node: three CPUs on two nodes of two are not to be had."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-c", textwrap.dedent(START_TWO_NODES)]
    with subprocess.Popen(command, env=environment(RAY_AUTH_MODE="disabled"), text=True, **pipes) as nodes:
        address = nodes.stdout.readline().strip()
        ended = run_script(JOIN_TWO_NODES, RAY_ADDRESS=address, RAY_AUTH_MODE="disabled")
        nodes.communicate("", timeout=60)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "1 worker × 3 CPU = 3 CPU, but the cluster has 4 on 2 nodes (2, 2), which is room for 0. "
        "Ask for less in resources_per_worker.",
        "3 workers × 1 CPU = 3 CPU, but the cluster has 4 on 2 nodes (2, 2), which is room for 2 under "
        "placement_strategy='STRICT_SPREAD'. Set num_workers to at most 2.",
        "3 workers × 1 CPU = 3 CPU, but the cluster has 4 on 2 nodes (2, 2), which is room for 2 under "
        "placement_strategy='STRICT_PACK'. Set num_workers to at most 2.",
        "3 workers need 1 CPU and 0.25 disk each, together on one node, and the nodes have room for 2. "
        "Set num_workers to at most 2, or ask for less in resources_per_worker.",
        "100 rows by 4 workers, and a CPU is left to read them",
    ]
