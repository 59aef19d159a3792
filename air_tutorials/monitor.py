"""Watch a training while it runs: a progress bar and a loss curve in one output of the notebook.

Live, the output is HTML, drawn anew a few times a second. When the training has ended, a picture takes its place; it is
drawn from every step, and so it is the same whenever the training is. Beneath it one line counts epochs and steps.
"""

import contextlib
import html
import io
import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, SupportsFloat, TypeVar

import ray

from air_tutorials.display import LiveOutput
from air_tutorials.errors import ClusterError, ConfigError
from air_tutorials.plots import plot_step_losses
from air_tutorials.progress import LossHistory, Step, StepSender, start_board

_REFRESH_S = 0.25
_FETCH_TIMEOUT_S = 5.0
_BLUE = "#2a8bd2"  # Contrast of at least 3 on white as well as on black.
Item = TypeVar("Item")


class TrainingMonitor:
    """Show how a training goes: epoch, step, loss, and the curve of the loss.

    In this process::

        with TrainingMonitor(num_epochs=5) as monitor:
            train_func({"epochs": 5, "on_step": monitor.on_step})

    On the workers of a Ray Train run, ``monitor.remote_on_step`` takes its place, and ``fit()`` is called inside the
    block: a thread fetches what rank 0 sends. Outside a notebook it is one line on a terminal, and otherwise silent.

    Args:
        num_epochs: how many the training will make, at least 1.
        title: what is trained.

    Raises:
        ConfigError: ``num_epochs`` is below 1.
    """

    def __init__(self, num_epochs: int, title: str = "Training") -> None:
        if num_epochs < 1:
            raise ConfigError(f"num_epochs is {num_epochs}. Give the number of epochs that you train, at least 1.")
        self.num_epochs = num_epochs
        self.title = title
        self.history = LossHistory()
        self._waiting: list[Step] = []
        self._next_draw_s = 0.0
        self._output: LiveOutput | None = None
        self._board: Any = None
        self._request: Any = None
        self._thread = threading.Thread(target=self._poll, name="TrainingMonitor", daemon=True)
        self._is_over = threading.Event()

    def __reduce__(self) -> Any:
        raise ConfigError(
            "monitor.on_step works in this process only. Give a training on Ray's workers monitor.remote_on_step."
        )

    def __enter__(self) -> Self:
        self._output = LiveOutput(f"{self.title}: the loss of each step")
        self._draw()
        return self

    def on_step(self, epoch: int, step: int, num_steps: int, loss: SupportsFloat) -> None:
        """Note a step of a training in this process.

        Args:
            epoch: counted from 0.
            step: of the epoch, counted from 0.
            num_steps: of the epoch; 0 if unknown.
            loss: of the step.
        """
        self._waiting.append((epoch, step, num_steps, loss))
        if time.monotonic() >= self._next_draw_s:
            self._draw()
            self._next_draw_s = time.monotonic() + _REFRESH_S

    @property
    def remote_on_step(self) -> StepSender:
        """The same for a training on Ray's workers, as it can be pickled. The first use starts a small actor.

        Raises:
            ClusterError: Ray is not connected; call ``local_cluster()`` first.
            ConfigError: used outside the ``with`` block.
        """
        if self._output is None or self._is_over.is_set():
            raise ConfigError("monitor.remote_on_step works inside `with TrainingMonitor(…) as monitor:` only.")
        if self._board is None:
            if not ray.is_initialized():
                raise ClusterError("Ray is not connected, so no worker can report. Call local_cluster() first.")
            self._board = start_board()
            self._request = self._board.take.remote()
            self._thread.start()
        return StepSender(self._board)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._board is not None:
            self._thread.join()
            self._fetch(_FETCH_TIMEOUT_S)
            self._fetch(_FETCH_TIMEOUT_S)  # The request under way may have been answered before the last step.
            with contextlib.suppress(Exception):
                ray.kill(self._board)
        self._note_waiting()
        self._leave(failed=kind is not None)

    def _poll(self) -> None:
        while not self._is_over.wait(_REFRESH_S):
            self._fetch(timeout_s=0)
            self._draw()

    def _fetch(self, timeout_s: float) -> None:
        # The death of the board, or of Ray, ends the display and not the training.
        with contextlib.suppress(Exception):
            # Ray would start anew if it were used after a shutdown.
            if ray.is_initialized() and ray.wait([self._request], timeout=timeout_s)[0]:
                self.history.add(ray.get(self._request))
                self._request = self._board.take.remote()

    def _note_waiting(self) -> None:
        self.history.add(self._waiting)
        self._waiting = []

    def _draw(self) -> None:
        if self._output is None:
            raise ConfigError("monitor.on_step works inside `with TrainingMonitor(…) as monitor:` only.")
        self._note_waiting()
        caption, fraction = "waiting for the first step", None
        if self.history.places:
            (epoch, step), num_steps = self.history.places[-1], self.history.num_steps
            steps = f" of {num_steps}" if num_steps else ""
            caption = f"epoch {epoch + 1} of {self.num_epochs}, step {step + 1}{steps}, "
            caption += f"loss {self.history.losses[-1]:.4g}"
            fraction = self.history.epochs_done() / self.num_epochs
        curve = _curve_svg(*self.history.curve(), num_epochs=self.num_epochs)
        self._output.update(_bar_html(self.title, caption, fraction) + curve, f"{self.title}: {caption}")

    def _leave(self, *, failed: bool) -> None:
        assert self._output is not None
        line = f"{self.title}: {'stopped after ' if failed and self.history.places else ''}{self.history.summary()}"
        picture = io.BytesIO()
        if self.history.places:
            figure = plot_step_losses(*self.history.curve(), title=line if failed else self.title)
            # Without matplotlib's version in it, so that an update of matplotlib changes no stored page.
            figure.savefig(picture, format="png", metadata={"Software": None})
        self._output.finish(line, png=picture.getvalue())
        if self._output.in_notebook and not failed:
            sys.stdout.write(f"{line}\n")


def track(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, such as the batches of a dataset, and show how many are done.

    Args:
        items: what is gone through.
        label: what is being done with them; it stays in the end, with the number of items where that is known.
        total: how many items there are; left out, ``len(items)`` if there is one.

    >>> list(track("ab", "Reading letters"))
    ['a', 'b']
    """
    total = total if total is not None else getattr(items, "__len__", lambda: None)()
    of_total = "" if total is None else f" of {total:,}"
    output = LiveOutput(label if total is None else f"{label}: {total:,}{of_total}")
    num_done, next_draw_s = 0, 0.0
    try:
        for item in items:
            if time.monotonic() >= next_draw_s:
                caption = f"{num_done:,}{of_total}"
                output.update(_bar_html(label, caption, num_done / total if total else None), f"{label}: {caption}")
                next_draw_s = time.monotonic() + _REFRESH_S
            yield item
            num_done += 1
    finally:
        line = label if total is None else f"{label}: {num_done:,}{of_total}"
        output.finish(line, text=line)


def _bar_html(title: str, caption: str, fraction: float | None) -> str:
    """Return a progress bar with words above it; without a fraction it only shows that something happens."""
    value = "" if fraction is None else f' value="{min(fraction, 1.0):.4f}"'
    title = html.escape(title)
    return (
        f'<div style="max-width: 600px"><div><strong>{title}</strong>: {html.escape(caption)}</div>'
        f'<progress aria-label="{title}" max="1"{value} style="width: 100%; accent-color: {_BLUE}"></progress></div>'
    )


def _curve_svg(epochs: list[float], losses: list[float], num_epochs: int) -> str:
    """Return the curve as SVG, in the text colour of the page's theme: matplotlib would take 50 ms for each frame."""
    points = [(x, y) for x, y in zip(epochs, losses, strict=True) if math.isfinite(y)]
    low, high = min((y for _, y in points), default=0.0), max((y for _, y in points), default=0.0)
    left, right, top, bottom = 60.0, 585.0, 12.0, 150.0
    scale_x, scale_y = (right - left) / num_epochs, (bottom - top) / (high - low or 1.0)
    line = " ".join(f"{left + x * scale_x:.1f},{bottom - (y - low) * scale_y:.1f}" for x, y in points)
    ticks = range(0, num_epochs + 1, math.ceil(num_epochs / 10))
    texts = [(left + tick * scale_x, bottom + 18, "middle", str(tick)) for tick in ticks]
    texts.append(((left + right) / 2, bottom + 36, "middle", "epochs done"))
    if points:
        texts += [(left - 8, top + 5, "end", f"{high:.3g}"), (left - 8, bottom + 5, "end", f"{low:.3g}")]
        texts.append((left - 8, (top + bottom) / 2 + 5, "end", "loss"))
    words = "".join(
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in texts
    )
    axes = f"M{left:g} {top:g}V{bottom:g}H{right:g}"
    return (
        '<svg viewBox="0 0 600 190" style="max-width: 600px" font-size="13" fill="currentColor" role="img" '
        f'aria-label="training loss by epochs done"><path d="{axes}" fill="none" stroke="currentColor"/>{words}'
        f'<polyline points="{line}" fill="none" stroke="{_BLUE}" stroke-width="2"/></svg>'
    )
