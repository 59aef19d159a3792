"""Run a function as several workers in this process, one after the other, in step where they exchange something."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from air_tutorials.errors import ClusterError, ConfigError

T = TypeVar("T")


class _Abandoned(BaseException):
    """Ends a worker that waits for ever."""


class SimulatedWorkers:
    """Workers of this process, of which one runs at a time.

    Args:
        world_size: how many, at least 1.

    Raises:
        ConfigError: ``world_size`` is below 1.
    """

    def __init__(self, world_size: int) -> None:
        if world_size < 1:
            raise ConfigError(f"world_size is {world_size}. Give the number of workers, at least 1.")
        self.world_size = world_size
        self._local = threading.local()
        self._turns = [threading.Semaphore(0) for _ in range(world_size)]
        self._scheduler = threading.Semaphore(0)
        self._waiting: dict[int, tuple[str, Any]] = {}
        self._received: list[Any] = []
        self._errors: list[BaseException] = []
        self._are_abandoned = False

    @property
    def rank(self) -> int:
        """The number of the worker that asks, counted from 0."""
        return self._local.rank

    def run(self, function: Callable[[int], T]) -> list[T]:
        """Call a function once as each worker, with the worker's rank, and return what the calls returned.

        Raises:
            ClusterError: the workers wait for each other, for ever; the message says for what.
        """
        returned: dict[int, T] = {}
        threads = [
            threading.Thread(target=self._work, args=(rank, function, returned), daemon=True)
            for rank in range(self.world_size)
        ]
        for thread in threads:
            thread.start()
        # A process has random numbers of its own, and so has each of these.
        random_states = [torch.get_rng_state()] * self.world_size
        with torch.random.fork_rng(devices=[]):
            while True:
                for rank, turn in enumerate(self._turns):
                    torch.set_rng_state(random_states[rank])
                    turn.release()
                    self._scheduler.acquire()
                    random_states[rank] = torch.get_rng_state()
                if len(self._waiting) < self.world_size or len({what for what, _ in self._waiting.values()}) > 1:
                    break
                self._received = [self._waiting[rank][1] for rank in range(self.world_size)]
                self._waiting = {}
        return self._end(threads, returned)

    def exchange(self, what: str, value: T) -> list[T]:
        """Wait until every worker has come to the same exchange, and return what each of them gave.

        Args:
            what: the name of the exchange.
            value: what this worker gives.
        """
        self._waiting[self.rank] = (what, value)
        self._pause()
        return list(self._received)

    def _pause(self) -> None:
        self._scheduler.release()
        self._turns[self.rank].acquire()
        if self._are_abandoned:
            raise _Abandoned

    def _work(self, rank: int, function: Callable[[int], T], returned: dict[int, T]) -> None:
        self._local.rank = rank
        self._turns[rank].acquire()
        try:
            returned[rank] = function(rank)
        except _Abandoned:
            return
        except BaseException as error:
            self._errors.append(error)
        self._scheduler.release()

    def _end(self, threads: list[threading.Thread], returned: dict[int, T]) -> list[T]:
        self._are_abandoned = True
        for turn in self._turns:
            turn.release()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        if self._waiting:
            places = [
                f"worker {rank} {'waits in ' + self._waiting[rank][0] if rank in self._waiting else 'has finished'}"
                for rank in range(self.world_size)
            ]
            raise ClusterError(f"The workers wait for each other for ever: {', '.join(places)}.")
        return [returned[rank] for rank in range(self.world_size)]
