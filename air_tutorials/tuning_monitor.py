"""Watch the trials of Ray Tune while they run: a table and their curves in one output of the notebook."""

import contextlib
import html
import io
import math
import time
from collections.abc import Sequence
from typing import Any

from ray import tune

from air_tutorials.display import LiveOutput
from air_tutorials.errors import ConfigError
from air_tutorials.tuning_plots import plot_trial_curves

_REFRESH_S = 0.5
_MAX_ROWS = 12
_BLUE = "#2a8bd2"  # Contrast of at least 3 on white as well as on black.


class TuningMonitor(tune.Callback):
    """Show how the trials go. A callback for ``make_tuner``, or for Tune's own ``RunConfig``.

    Live, it is a table of the best trials and a curve for each; in the end a picture of the curves takes its place.
    Outside a notebook it is one line on a terminal, and otherwise silent.

    Args:
        metric: of those that the trials report, the one to show.
        mode: ``"min"`` or ``"max"``: which is better.
        title: what is tuned.

    Raises:
        ConfigError: the mode is unknown.
    """

    def __init__(self, metric: str = "loss", mode: str = "min", title: str = "Tuning") -> None:
        if mode not in ("min", "max"):
            raise ConfigError(f"mode is {mode!r}, and must be 'min' or 'max'.")
        self.metric, self.title = metric, title
        self.best = min if mode == "min" else max
        self.curves: dict[str, list[float]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.is_running: dict[str, bool] = {}
        self._output: LiveOutput | None = None
        self._next_draw_s = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Tune keeps its callbacks on disk, and an output belongs to one notebook.
        return {**self.__dict__, "_output": None}

    def setup(self, **_: Any) -> None:
        """Open the output; Tune calls this before the first trial."""
        self._output = LiveOutput(f"{self.title}: the {self.metric} of each trial")

    def on_trial_result(self, *, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Note what a trial reported; Tune calls this.

        Args:
            trials: all of the experiment.
            trial: the one that reported.
            result: what it reported.
        """
        if self.metric in result:
            self.curves.setdefault(trial.trial_id, []).append(float(result[self.metric]))
            self.configs[trial.trial_id] = trial.evaluated_params
        self.is_running = {each.trial_id: each.status == "RUNNING" for each in trials}
        if time.monotonic() >= self._next_draw_s:
            self._next_draw_s = time.monotonic() + _REFRESH_S
            self._draw(len(trials))

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """Leave a picture of all curves; Tune calls this."""
        if self._output is None:
            return
        picture = io.BytesIO()
        if self.curves:
            figure = plot_trial_curves(list(self.curves.values()), ylabel=self.metric)
            # Without matplotlib's version in it, so that an update of matplotlib changes no stored page.
            figure.savefig(picture, format="png", metadata={"Software": None})
        self._output.finish(f"{self.title}: {self._caption(len(trials))}", png=picture.getvalue())
        self._output = None

    def _caption(self, num_trials: int) -> str:
        caption = f"{len(self.curves)} of {num_trials} trials have reported"
        values = [value for curve in self.curves.values() for value in curve if math.isfinite(value)]
        return f"{caption}, best {self.metric} {self.best(values):.4g}" if values else caption

    def _draw(self, num_trials: int) -> None:
        if self._output is None:
            return
        # A display that fails ends itself, and not the experiment.
        with contextlib.suppress(Exception):
            caption = self._caption(num_trials)
            markup = f"<div><strong>{html.escape(self.title)}</strong>: {html.escape(caption)}</div>"
            self._output.update(markup + self._table() + _curves_svg(list(self.curves.values())), caption)

    def _table(self) -> str:
        def key(trial_id: str) -> float:
            values = [value for value in self.curves[trial_id] if math.isfinite(value)]
            if not values:
                return math.inf
            return min(values) if self.best is min else -max(values)

        names = sorted({name for config in self.configs.values() for name in config})
        head = "".join(f"<th>{html.escape(name)}</th>" for name in ["", *names, "epochs", self.metric])
        rows = []
        for trial_id in sorted(self.curves, key=key)[:_MAX_ROWS]:
            curve, config = self.curves[trial_id], self.configs[trial_id]
            shown = ["▶" if self.is_running.get(trial_id) else "■", *(_short(config.get(name)) for name in names)]
            cells = [*shown, str(len(curve)), _short(curve[-1])]
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _curves_svg(curves: Sequence[Sequence[float]]) -> str:
    """Return the curves as SVG, in the text colour of the page's theme: matplotlib would take 50 ms for each frame."""
    values = [value for curve in curves for value in curve if math.isfinite(value)]
    if not values:
        return ""
    low, high, longest = min(values), max(values), max(map(len, curves))
    scale_x, scale_y = 525 / max(longest - 1, 1), 138 / (high - low or 1.0)
    lines = ""
    for curve in curves:
        points = [(60 + x * scale_x, 150 - (y - low) * scale_y) for x, y in enumerate(curve) if math.isfinite(y)]
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        lines += f'<polyline points="{text}" fill="none" stroke="{_BLUE}" stroke-width="2"/>'
        lines += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_BLUE}"/>' for x, y in points[-1:])
    return (
        '<svg viewBox="0 0 600 170" style="max-width: 600px" font-size="13" fill="currentColor" role="img" '
        f'aria-label="one curve for each trial"><text x="52" y="17" text-anchor="end">{high:.3g}</text>'
        f'<text x="52" y="155" text-anchor="end">{low:.3g}</text>{lines}</svg>'
    )
