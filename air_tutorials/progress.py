"""How a training function tells the notebook where it is, from a Ray worker or from any other process of the cluster.

A training function calls ``config["on_step"](epoch, step, num_steps, loss)``. In a worker that is a ``StepSender``: it
collects the steps and now and then sends them to a ``ProgressBoard``, an actor from which the notebook takes them.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, SupportsFloat

import ray

# Delivery takes a millisecond. Only a board that cannot be reached makes a training wait for it, and only once.
_DELIVERY_TIMEOUT_S = 10.0


# Epoch and step, both counted from 0; steps in the epoch, 0 if unknown; loss of the step's batch.
Step = tuple[int, int, int, SupportsFloat]


class ProgressBoard:
    """Keeps the steps that were sent until somebody takes them; meant to run as an actor.

    Args:
        max_steps: the oldest go when more than that lie here untaken.

    >>> board = ProgressBoard()
    >>> board.add([(0, 0, 8, 2.3)])
    >>> board.take(), board.take()
    ([(0, 0, 8, 2.3)], [])
    """

    def __init__(self, max_steps: int = 100_000) -> None:
        self._steps: deque[Step] = deque(maxlen=max_steps)

    def add(self, steps: Iterable[Step]) -> None:
        """Keep some steps."""
        self._steps.extend(steps)

    def take(self) -> list[Step]:
        """Hand out what lies here, oldest first, and forget it."""
        steps = list(self._steps)
        self._steps.clear()
        return steps


def start_board() -> Any:
    """Start a ``ProgressBoard`` as an actor that occupies no CPU, and return its handle without waiting for it."""
    return ray.remote(num_cpus=0)(ProgressBoard).remote()


class StepSender:
    """Sends the steps of a training to a ``ProgressBoard``; the ``on_step`` for a training in a Ray worker.

    Every step arrives, many in one message, so that a step itself costs an append to a list. Of the workers of a Ray
    Train run only rank 0 sends. The training never fails by it: once the board is gone, the sender falls silent.
    It can be pickled; a copy starts with nothing to send.

    Args:
        board: handle of a ``ProgressBoard`` actor.
        interval_s: seconds between two messages. The first and the last step of an epoch are sent at once, and after
            the last the training goes on when it has arrived, so that a run that has ended has sent everything. Where
            the number of steps is unknown, no step is the last, and those of the run's last interval are lost.
    """

    def __init__(self, board: Any, interval_s: float = 0.25) -> None:
        self._board = board
        self._interval_s = interval_s
        self._waiting: list[Step] = []
        self._next_send_s = 0.0
        self._message: Any = None
        self._is_asked = False

    def __reduce__(self) -> tuple[Any, ...]:
        return StepSender, (self._board, self._interval_s)

    def __call__(self, epoch: int, step: int, num_steps: int, loss: SupportsFloat) -> None:
        """Note one step, and send what was noted when it is time.

        Args:
            epoch: counted from 0. An epoch may come again, when a worker died and the run resumed.
            step: within the epoch, counted from 0.
            num_steps: steps in the epoch; 0 if unknown.
            loss: a number or a detached tensor of shape (). It becomes a number only when it is sent, since that
                makes a GPU wait.
        """
        if self._board is None:
            return
        self._waiting.append((epoch, step, num_steps, loss))
        is_first, is_last = step == 0, step == num_steps - 1
        if is_first or is_last or time.monotonic() >= self._next_send_s:
            self._next_send_s = time.monotonic() + self._interval_s
            self._send(must_go=is_first or is_last, must_arrive=is_last)

    def _send(self, *, must_go: bool, must_arrive: bool) -> None:
        try:
            if not self._is_asked and _world_rank() != 0:
                self._fall_silent()
                return
            self._is_asked = True
            # One message at a time: a slow board gets fewer and longer ones.
            if self._has_arrived(_DELIVERY_TIMEOUT_S if must_go else 0.0):
                self._message = self._board.add.remote([(*place, float(loss)) for *place, loss in self._waiting])
                self._waiting = []
            elif must_go:
                self._fall_silent()
            if must_arrive and not self._has_arrived(_DELIVERY_TIMEOUT_S):
                self._fall_silent()
        except Exception:
            self._fall_silent()

    def _has_arrived(self, timeout_s: float) -> bool:
        if self._message is None:
            return True
        if not ray.wait([self._message], timeout=timeout_s)[0]:
            return False
        ray.get(self._message)  # Raises when the board is gone.
        self._message = None
        return True

    def _fall_silent(self) -> None:
        self._board = self._message = None
        self._waiting = []


class LossHistory:
    """The losses of a training by step. A step that comes again takes back what came after it.

    That happens when a worker died, and the run went on from its last checkpoint.

    >>> history = LossHistory()
    >>> history.add([(0, 0, 2, 0.9), (0, 1, 2, 0.7), (1, 0, 2, 0.5), (0, 1, 2, 0.7)])
    >>> history.curve()
    ([0.5, 1.0], [0.9, 0.7])
    """

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []  # (epoch, step), ascending
        self.losses: list[float] = []
        self.num_steps = 0
        self._epoch_length = 1

    def add(self, steps: Iterable[Step]) -> None:
        """Note some steps."""
        for epoch, step, num_steps, loss in steps:
            while self.places and self.places[-1] >= (epoch, step):
                self.places.pop()
                self.losses.pop()
            self.places.append((epoch, step))
            self.losses.append(float(loss))
            self.num_steps = num_steps
            self._epoch_length = num_steps or max(self._epoch_length, step + 1)

    def epochs_done(self, index: int = -1) -> float:
        """Return how many epochs were done after a step; an epoch of unknown length is as long as the longest seen."""
        epoch, step = self.places[index]
        return epoch + (step + 1) / self._epoch_length

    def curve(self, max_points: int = 300) -> tuple[list[float], list[float]]:
        """Return epochs done and losses of at most ``max_points`` points, each the mean over equally many steps."""
        width = math.ceil(len(self.losses) / max_points) or 1
        bins = [self.losses[start : start + width] for start in range(0, len(self.losses), width)]
        ends = [min(start + width, len(self.losses)) - 1 for start in range(0, len(self.losses), width)]
        return [self.epochs_done(end) for end in ends], [sum(each) / len(each) for each in bins]

    def summary(self) -> str:
        """Return the number of epochs and, where the length of an epoch is known, of steps."""
        if not self.places:
            return "no step was reported"
        epochs = len({epoch for epoch, _ in self.places})
        steps = f", {len(self.places):,} step{'s' * (len(self.places) != 1)}" if self.num_steps else ""
        return f"{epochs} epoch{'s' * (epochs != 1)}{steps}"


def _world_rank() -> int:
    """Return this worker's rank in its Ray Train run, and 0 outside of one."""
    # Ray Train has imported itself in its workers; elsewhere importing it would take a second for nothing.
    if "ray.train" not in sys.modules:
        return 0
    try:
        return sys.modules["ray.train"].get_context().get_world_rank() or 0
    except Exception:  # Imported, but this is no training function of a Ray Train run.
        return 0
