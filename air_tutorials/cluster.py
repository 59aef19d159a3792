"""Connect to a Ray cluster, or start one on this machine: quietly, on loopback only, without a network."""

import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import ray
from ray._common.network_utils import is_localhost, parse_address
from ray._private import ray_constants

from air_tutorials.errors import ClusterError, ConfigError
from air_tutorials.preflight import preflight

__all__ = ["local_cluster", "preflight"]

_CONNECT_TIMEOUT_S = 3.0


def local_cluster(num_cpus: int | None = None) -> dict[str, float]:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or else start one on this machine.

    A cluster that is started here listens on loopback only, needs no network, prints nothing, and ends with the
    process. A second call returns the cluster that is already there.

    Args:
        num_cpus: logical CPUs of a cluster that is started here. More than the machine has cores is allowed, and then
            workers share cores. Left out: one for each core. A cluster that ``RAY_ADDRESS`` names keeps its own number.

    Returns:
        What the cluster has, such as ``{"CPU": 4.0, "GPU": 0.0}``.

    Raises:
        ConfigError: ``num_cpus`` is below 1, or this process already runs a cluster with another number; leave it out,
            or call ``ray.shutdown()`` first.
        ClusterError: nothing answers at ``RAY_ADDRESS``, or Ray does not start here; the message says which.
    """
    if num_cpus is not None and num_cpus < 1:
        raise ConfigError(f"num_cpus is {num_cpus}, and must be at least 1. Leave it out for one for each core.")
    address = os.environ.get("RAY_ADDRESS") or "local"
    if not ray.is_initialized():
        _keep_quiet()
        with _without_log_level_notice():
            if address == "local":
                _start(num_cpus)
            else:
                _connect(address)
    resources = ray.cluster_resources()
    has = {"CPU": resources.get("CPU", 0.0), "GPU": resources.get("GPU", 0.0)}
    if address == "local" and num_cpus not in (None, has["CPU"]):
        raise ConfigError(
            f"num_cpus is {num_cpus}, but this process already runs a cluster with {has['CPU']:g} CPUs. "
            "Leave num_cpus out to use that one, or call ray.shutdown() first."
        )
    return has


def _keep_quiet() -> None:
    """Keep what Ray tells of its own work from the reader, here and in workers; exceptions are raised as ever."""
    for name, value in {
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        # Outside a notebook, Tune prints its settings even at verbose=0.
        "RAY_AIR_NEW_OUTPUT": "0",
        # At ERROR, Ray Data logs the trace of an exception twice beside raising it.
        "RAY_DATA_LOG_LEVEL": "CRITICAL",
        # What a function over batches raises arrives as itself, not inside an exception of Ray's.
        "RAY_DATA_RAISE_ORIGINAL_MAP_EXCEPTION": "1",
        # Ray's C++ part reports each actor pool of Ray Data as an error, though it is none.
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        # With fewer, Ray warns of many processes from the 16th worker on.
        "RAY_worker_maximum_startup_concurrency": "16",
    }.items():
        os.environ.setdefault(name, value)
    # Whoever waits for a process that died gets an exception. Ray prints a paragraph beside it, also about a process
    # that ended because its work was done, now and then; it has no other switch for that.
    ray._private.worker._worker_logs_enabled = False
    if "ray.data" in sys.modules:  # imported before these settings were made
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.raise_original_map_exception = False, True
        logging.getLogger("ray.data").setLevel(os.environ["RAY_DATA_LOG_LEVEL"])


@contextmanager
def _without_log_level_notice() -> Iterator[None]:
    """Drop the line that Ray's C++ part writes to file descriptor 2 about its log level, and no other."""
    with tempfile.TemporaryFile() as captured:
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            captured.seek(0)
            os.write(stderr, b"".join(line for line in captured if b"RAY_BACKEND_LOG_LEVEL" not in line))
            os.close(stderr)


def _start(num_cpus: int | None) -> None:
    # Workers find each other also when the host name has no address, or one that another machine has.
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, "lo0" if sys.platform == "darwin" else "lo")
    # The controller of a run looks at its workers this often. At Ray's 2 s, made for large clusters, a run of a few
    # seconds ends late, since it is over only when the controller has looked.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # A task reads so much of Parquet files, all of it at the same time. With Ray's 128 MiB, made for storage far away,
    # one process took 3 GiB for the files of a million small images, and was no faster.
    os.environ.setdefault("RAY_DATA_PARQUET_BIN_PACKING_BYTES", str(16 * 2**20))
    # So many actors read the footers of Parquet files, each a process that is started for that alone, also for one
    # file. With Ray's 32, which it spreads over a large cluster, a million rows took 24 s, and with one 21 s.
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
    # Known to this process and its children alone. Ray would keep one in the home directory, readable by everybody.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        with _loopback_kept():
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
            )
    except Exception as error:
        raise ClusterError(f"Ray did not start on this machine: {error}") from error


def _connect(address: str) -> None:
    host, port = parse_address(address.removeprefix("ray://")) or (address, None)
    # Ray tries once a second, 20 times, even when a wrong token is refused each time.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "3")
    try:
        if port is not None:
            _check_speaks_grpc(host, int(port))
        with _loopback_kept() if is_localhost(host) else nullcontext():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise ClusterError(
            f"No cluster could be joined at RAY_ADDRESS={address}: {error}. Correct it (and RAY_AUTH_TOKEN, if the "
            "cluster wants a token), or unset it to start Ray on this machine."
        ) from error


def _check_speaks_grpc(host: str, port: int) -> None:
    """Find out in seconds that nothing is there, or something other than Ray; Ray itself would try for a minute."""
    with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            # HTTP/2 begins with the client's preface and an empty SETTINGS frame, answered by the server's SETTINGS.
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            if connection.recv(9)[3:4] != b"\x04":
                raise ConnectionError("what answers there is not Ray")


@contextmanager
def _loopback_kept() -> Iterator[None]:
    """Let Ray keep 127.0.0.1 as this node's address, as it does on macOS and Windows.

    On Linux it would put the address of a network interface in its place, and listen on every interface.
    """
    variable = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR  # for the processes that Ray starts
    before = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(variable)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[variable] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[0]
        if before[1] is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before[1]
