"""The two plots of the page of results."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.measure import Curve, Row

# Source: M. Okabe and K. Ito, Color Universal Design, 2008; free to use. Marks tell them apart without colour, too.
_BLUE, _VERMILION, _GREEN = "#0072B2", "#D55E00", "#009E73"
_LINES = [(_BLUE, "-", "o"), (_VERMILION, "--", "s"), (_GREEN, ":", "^")]
_STYLE = {
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.size": 12,
    "grid.color": "#dddddd",
}


def plot_ratios(rows: list[Row], path: Path) -> None:
    """Draw each ratio that has a target: the median with its spread, and the side of the target that counts.

    Args:
        rows: of all families; those that are no ratio, or have no target, are left out.
        path: of the PNG.
    """
    judged = [row for row in rows if row.compare == "ratio" and row.is_met() is not None]
    if not judged:
        return
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8.0, 1.2 + 0.62 * len(judged)))
        for y, row in enumerate(judged):
            middle, lowest, highest = row.spread()
            color, marker = (_BLUE, "o") if row.is_met() else (_VERMILION, "s")
            axes.plot([lowest, highest], [y, y], color=color, linewidth=3, alpha=0.5)
            axes.plot(middle, y, marker, color=color, markersize=8)
            bound = row.at_least if row.at_least is not None else row.at_most
            axes.plot(bound, y, ">" if row.at_least is not None else "<", color="black", markersize=7)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
        axes.set_yticks(
            range(len(judged)), [f"{row.what}\nagainst {row.peer}".replace("`", "") for row in judged], fontsize=9
        )
        axes.invert_yaxis()
        axes.axvline(1, color="#888888", linewidth=1)
        axes.set_xlabel("ours / theirs; the triangle is the target,\nand points to the better side")
        _save(figure, path)


def plot_payoff(curves: list[Curve], path: Path) -> None:
    """Draw images per second against the batch size, a panel for each model and a line for each number of processes.

    Args:
        curves: ``panel`` is the model, ``name`` the number of processes.
        path: of the PNG.
    """
    panels = list(dict.fromkeys(curve.panel for curve in curves))
    sizes = sorted({size for curve in curves for size in curve.x})
    with mpl.rc_context(_STYLE):
        figure, all_axes = plt.subplots(len(panels), figsize=(6.4, 3.2 * len(panels)), sharex=True, squeeze=False)
        for axes, panel in zip(all_axes[:, 0], panels, strict=True):
            for number, curve in enumerate([each for each in curves if each.panel == panel]):
                color, linestyle, marker = _LINES[number % len(_LINES)]
                axes.plot(curve.x, curve.y, color=color, linestyle=linestyle, marker=marker, label=curve.name)
            axes.set_title(panel.partition(": ")[2], fontsize=12)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.yaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
            axes.set_ylabel("images per second")
        all_axes[0, 0].legend(loc="lower right")
        all_axes[-1, 0].set_xlabel("images in a step, of all processes")
        _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
