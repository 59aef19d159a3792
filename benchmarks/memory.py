"""The peak memory of this process with all that it started, and of Ray's object store."""

import threading
from typing import Any

import psutil
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

_INTERVAL_S = 0.25


class PeakMemory:
    """Looks at the memory four times a second, within ``with``; the look itself takes about a millisecond.

    Attributes:
        peak_bytes: the most that all processes held for themselves and the object store held for all.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        state = get_state_from_address(ray.get_runtime_context().gcs_address)
        while not self._stop.wait(_INTERVAL_S):
            self.peak_bytes = max(self.peak_bytes, private_bytes() + object_store_bytes(state))


def private_bytes() -> int:
    """Add up what this process and its descendants hold for themselves alone: what they share is not counted."""
    total = 0
    for process in [own := psutil.Process(), *own.children(recursive=True)]:
        try:
            memory = process.memory_info()
        except psutil.Error:
            continue
        total += memory.rss - memory.shared
    return total


def object_store_bytes(state: Any) -> int:
    """Return what lies in Ray's object store."""
    return get_memory_info_reply(state).store_stats.object_store_bytes_used
