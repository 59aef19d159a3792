"""What was measured on: the machine, its cores and memory, and the versions of all that takes part."""

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import psutil

_PACKAGES = [
    *["ray", "torch", "torchvision", "numpy", "pyarrow", "accelerate", "lightning-fabric"],
    *["optuna", "fastapi", "uvicorn", "litserve"],
]


def describe() -> dict[str, str]:
    """Describe the machine and the versions, and how busy the machine was before anything was measured."""
    memory_gib = psutil.virtual_memory().total / 2**30
    busy = psutil.cpu_percent(interval=1.0)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()}",
        "busy": f"{busy:.0f} % of the cores were busy before the start, load {os.getloadavg()[0]:.1f}",
        "versions": ", ".join([f"Python {platform.python_version()}", *map(_version, _PACKAGES)]),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"
