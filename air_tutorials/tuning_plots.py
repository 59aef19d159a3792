"""Figures of an experiment: the curves of its trials, and what their hyperparameters had to do with the result."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from air_tutorials.errors import ConfigError
from air_tutorials.plots import new_figure

_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#8a8a8a"
_BEST = {"color": _VERMILION, "linewidth": 3, "zorder": 3}


def plot_trial_curves(curves: Sequence[Sequence[float]], *, ylabel: str = "loss") -> Figure:
    """Plot what each trial reported after each epoch; a point marks where it ended. The best end is drawn boldly.

    Args:
        curves: for each trial its values, one an epoch; NaN leaves a gap.
        ylabel: what they are.

    Raises:
        ConfigError: no trial has a value.
    """
    ends = [curve[-1] if len(curve) and math.isfinite(curve[-1]) else math.inf for curve in curves]
    if not ends or min(ends) == math.inf:
        raise ConfigError("Nothing to plot: no trial has a value.")
    with new_figure(3.4) as (figure, (ax,)):
        for number, curve in enumerate(curves):
            is_best = number == ends.index(min(ends))
            style: dict[str, Any] = _BEST if is_best else {"color": _BLUE, "alpha": 0.6}
            ax.plot(range(1, len(curve) + 1), curve, **style)
            ax.plot(len(curve), curve[-1], marker="s" if is_best else "o", **style)
        ax.set(xlabel="epochs", ylabel=ylabel)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def plot_parallel_coordinates(
    configs: Sequence[Mapping[str, Any]], losses: Sequence[float], *, log: Sequence[str] = ()
) -> Figure:
    """Plot one line for each trial through the values of its hyperparameters to its loss. The best is drawn boldly.

    Args:
        configs: hyperparameters of each trial, all with the same names and numbers for values.
        losses: of each trial; the last axis. Trials without a finite one are left out.
        log: names of the hyperparameters whose axis is logarithmic.

    Raises:
        ConfigError: no trial has a finite loss, or there are not as many losses as configs.
    """
    if len(configs) != len(losses):
        raise ConfigError(f"{len(configs)} configs and {len(losses)} losses: give as many of each.")
    kept = [(config, loss) for config, loss in zip(configs, losses, strict=True) if math.isfinite(loss)]
    if not kept:
        raise ConfigError("Nothing to plot: no trial has a finite loss.")
    names = [*kept[0][0], "loss"]
    table = np.array([[float(config[name]) for name in names[:-1]] + [loss] for config, loss in kept])
    best = int(table[:, -1].argmin())
    with new_figure(3.6) as (figure, (ax,)):
        heights = np.empty_like(table)
        for column, name in enumerate(names):
            values = np.log10(table[:, column]) if name in log else table[:, column]
            low, high = values.min(), values.max()
            heights[:, column] = (values - low) / (high - low or 1.0)
            for height, value in ((-0.08, table[:, column].min()), (1.03, table[:, column].max())):
                ax.text(column, height, f"{value:.3g}", ha="center", fontsize=11)
        for number, line in enumerate(heights):
            style: dict[str, Any] = _BEST if number == best else {"color": _BLUE}
            ax.plot(range(len(names)), line, alpha=1 if number == best else 0.5, **style)
        ax.set(xticks=range(len(names)), xticklabels=names, yticks=[], ylim=(-0.12, 1.12))
        ax.grid(visible=True, axis="x", color=_GREY)
        ax.spines["left"].set_visible(False)
    return figure


def plot_loss_against(values: Sequence[float], losses: Sequence[float], *, name: str, log: bool = True) -> Figure:
    """Plot the loss of each trial against one of its hyperparameters.

    Args:
        values: of the hyperparameter.
        losses: of the trials; those that are not finite are marked at the upper edge.
        name: of the hyperparameter.
        log: whether its axis is logarithmic.

    Raises:
        ConfigError: no trial has a finite loss, or there are not as many losses as values.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite or len(values) != len(losses):
        raise ConfigError(f"{len(values)} values and {len(finite)} finite losses cannot be plotted.")
    with new_figure(3.4) as (figure, (ax,)):
        for value, loss in zip(values, losses, strict=True):
            is_finite = math.isfinite(loss)
            color, marker = (_BLUE, "o") if is_finite else (_VERMILION, "x")
            ax.plot(value, loss if is_finite else max(finite), marker=marker, color=color, markersize=9)
        ax.set(xlabel=name, ylabel="loss", xscale="log" if log else "linear")
    return figure
