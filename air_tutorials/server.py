"""Start and stop Ray Serve on this machine: one server, in place of the last one, and nothing left of it afterwards."""

import errno
import logging
import socket
import time
from typing import NamedTuple

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import HTTPOptions

from air_tutorials.errors import ClusterError, ConfigError, PortInUseError
from air_tutorials.serving import QUIET

APP_NAME = "predictor"

_PATIENCE_S = 2.0  # a server that was stopped just now lets its port go a moment later


class Server(NamedTuple):
    """A running server.

    Attributes:
        url: without a slash at the end, such as ``http://127.0.0.1:8000``.
        handle: calls the deployment from Python, past HTTP: ``handle.batch_sizes.remote().result()``, and in a notebook
            ``await handle.batch_sizes.remote()``.
    """

    url: str
    handle: serve.handle.DeploymentHandle


def start_server(application: Application, *, host: str = "127.0.0.1", port: int = 8000) -> Server:
    """Start serving, in place of what ``start_server`` started before, and return when requests are taken.

    Args:
        application: what ``serving.make_deployment`` made.
        host: the address to listen on. At 127.0.0.1 this machine alone is served; ``"0.0.0.0"`` serves everybody.
        port: from 1 to 65535.

    Returns:
        The server's address, and a handle.

    Raises:
        PortInUseError: another program listens there; choose another port, or stop that program.
        ClusterError: the server did not start, or this cluster already serves others elsewhere; the message says what.
        ConfigError: the port is out of range.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if not 1 <= port <= 65535:
        raise ConfigError(f"port is {port}, and must be from 1 to 65535.")
    if not ray.is_initialized():
        raise ClusterError("Ray is not running. Call local_cluster() first.")
    if (listening := _listening()) not in (None, (host, port)):
        if others := set(serve.status().applications) - {APP_NAME}:
            raise ClusterError(
                f"This cluster serves {', '.join(sorted(others))} at {listening[0]}:{listening[1]}, and can listen at "
                "one address only. Call start_server with that address, or serve.shutdown() to end them all."
            )
        stop_server()
        listening = None
    if listening is None:
        _check_port_is_free(host, port)
    try:
        if listening is None:
            serve.start(http_options=HTTPOptions(host=host, port=port), logging_config=QUIET)
        handle = serve.run(application, name=APP_NAME, route_prefix="/")
    except Exception as error:
        reason = _why_no_replica_started() or str(error)
        stop_server()
        raise ClusterError(
            f"The server did not start: {reason}. A replica is a process of its own, and must be able to import what "
            "the model is made with and to read the checkpoint."
        ) from error
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return Server(f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}", handle)


def stop_server() -> None:
    """Stop what ``start_server`` started, and Ray Serve with it, unless it serves other applications too."""
    if not ray.is_initialized() or _listening() is None:
        return
    if set(serve.status().applications) <= {APP_NAME}:
        serve.shutdown()
    else:
        serve.delete(APP_NAME)


def _why_no_replica_started() -> str:
    """Return the last line of the trace that Serve kept, in which the exception stands."""
    if _listening() is None:
        return ""
    application = serve.status().applications.get(APP_NAME)
    messages = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = [line for message in messages for line in message.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""


def _listening() -> tuple[str, int] | None:
    """Return where this cluster's Ray Serve listens, if it runs; another program may have ended it meanwhile."""
    serve.context._check_cached_client_alive()  # forgets a client whose server is gone
    try:
        options = serve.context._get_global_client().http_config
    except serve.exceptions.RayServeException:
        return None
    return options.host, options.port


def _check_port_is_free(host: str, port: int) -> None:
    # Serve itself would try for a while, and then fail with the trace of an actor.
    give_up = time.monotonic() + _PATIENCE_S
    while (error := _error_at(host, port)) is not None and time.monotonic() < give_up:
        time.sleep(0.1)
    if error is None:
        return
    if error.errno == errno.EADDRINUSE:
        raise PortInUseError(
            f"Another program listens at port {port}. Choose another one, such as "
            f"start_server(..., port={port + 1 if port < 65535 else 8000}), or stop that program."
        ) from error
    raise ClusterError(f"Nothing can listen at {host}:{port}: {error.strerror}. Choose another.") from error


def _error_at(host: str, port: int) -> OSError | None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return error
    return None
