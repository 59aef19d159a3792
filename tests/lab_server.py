"""A JupyterLab of its own for the tests."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from served import free_port, wait_until


@contextmanager
def lab_server(directory: Path, data_root: Path) -> Iterator[str]:
    """Serve JupyterLab from a home of its own, with the settings that the package itself installs."""
    home, port = directory / "home", free_port()
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")
    own = {name: str(home / name.lower()) for name in names} | {
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "HOME": str(home),
        "AIR_TUTORIALS_DATA": str(data_root),
    }
    home.mkdir()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={directory / 'pages'}",
    ]
    with (directory / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log, cwd=directory)
        try:
            url = f"http://127.0.0.1:{port}"

            def answers() -> bool:
                assert server.poll() is None, (directory / "lab.log").read_text()
                try:
                    return urllib.request.urlopen(f"{url}/api/status", timeout=5).status == 200
                except (urllib.error.URLError, TimeoutError, ConnectionError):
                    return False

            wait_until(answers)
            yield url
        finally:
            # Asked to end, the server first ends its kernels.
            server.terminate()
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
