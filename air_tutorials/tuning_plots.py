"""Figures of an experiment: the curves of its trials, and what their hyperparameters had to do with the result."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from air_tutorials.errors import ConfigError
from air_tutorials.plots import new_figure

_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#8a8a8a"
_BEST = {"color": _VERMILION, "linewidth": 3, "zorder": 3}


def plot_trial_curves(curves: Sequence[Sequence[float]], *, ylabel: str = "loss", bold_lowest: bool = True) -> Figure:
    """Plot what each trial reported after each epoch; a point marks where it ended.

    Args:
        curves: for each trial its values, one an epoch; NaN leaves a gap.
        ylabel: what they are.
        bold_lowest: draw the curve with the lowest end boldly.

    Raises:
        ConfigError: no trial has a value.
    """
    ends = [curve[-1] if len(curve) and math.isfinite(curve[-1]) else math.inf for curve in curves]
    if not ends or min(ends) == math.inf:
        raise ConfigError("Nothing to plot: no trial has a value.")
    with new_figure(3.4) as (figure, (ax,)):
        for number, curve in enumerate(curves):
            is_best = bold_lowest and number == ends.index(min(ends))
            style: dict[str, Any] = _BEST if is_best else {"color": _BLUE, "alpha": 0.6}
            ax.plot(range(1, len(curve) + 1), curve, **style)
            ax.plot(len(curve), curve[-1], marker="s" if is_best else "o", **style)
        ax.set(xlabel="epochs", ylabel=ylabel)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def plot_trial_table(
    configs: Sequence[Mapping[str, Any]], curves: Sequence[Sequence[float]], *, max_epochs: int, ylabel: str = "loss"
) -> Figure:
    """Draw the table of an experiment: a row for each trial, with a bar as long as it trained. The best comes first.

    Args:
        configs: of each trial the hyperparameters to show, all with the same names.
        curves: of each trial what it reported after each epoch; the lowest value counts.
        max_epochs: what a trial that is never stopped trains. The bars of those that were stopped are lighter.
        ylabel: what was reported.

    Raises:
        ConfigError: there is no trial, or there are not as many curves as configs.
    """
    if not configs or len(configs) != len(curves):
        raise ConfigError(f"{len(configs)} configs and {len(curves)} curves: give at least one, and as many of each.")
    best = [min(filter(math.isfinite, curve), default=math.inf) for curve in curves]
    order = sorted(range(len(configs)), key=best.__getitem__)
    header = [*configs[0], "epochs trained", ylabel]
    with new_figure(0.9 + 0.32 * len(configs)) as (figure, (ax,)):
        places = [*np.linspace(0.0, 0.45, len(configs[0]), endpoint=False), 0.5, 1.0]
        for column, name in enumerate(header):
            ax.text(places[column], -1, name, ha="right" if column == len(header) - 1 else "left", weight="bold")
        for row, number in enumerate(order):
            length = len(curves[number])
            cells = [f"{value:.3g}" if isinstance(value, float) else f"{value}" for value in configs[number].values()]
            for place, text in zip(places, cells, strict=False):
                ax.text(place, row, text, va="center")
            alpha = 1.0 if length >= max_epochs else 0.45
            ax.barh(
                row,
                0.3 * length / max_epochs,
                left=0.5,
                height=0.7,
                color=_VERMILION if row == 0 else _BLUE,
                alpha=alpha,
            )
            ax.text(0.51 + 0.3 * length / max_epochs, row, f"{length}", va="center")
            ax.text(1.0, row, f"{best[number]:.3f}", va="center", ha="right")
        ax.set(xlim=(0, 1), ylim=(len(configs) - 0.4, -1.6))
        ax.axis("off")
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


def plot_best_so_far(searches: Mapping[str, Sequence[float]]) -> Figure:
    """Plot how good the best trial was after each trial, of several searches.

    Args:
        searches: by name, the lowest loss of the first trial, of the first two, and so on.

    Raises:
        ConfigError: there is none, or one of them has no trial.
    """
    if not searches or not all(map(len, searches.values())):
        raise ConfigError("Nothing to plot: give at least one search, and each with at least one trial.")
    with new_figure(3.4) as (figure, (ax,)):
        for (name, losses), color, dashes in zip(
            searches.items(), cycle([_BLUE, _VERMILION]), cycle("-:"), strict=False
        ):
            ax.step(range(1, len(losses) + 1), losses, dashes, where="post", color=color, label=name, marker="o")
        ax.set(xlabel="trials", ylabel="best loss so far")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.legend()
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
