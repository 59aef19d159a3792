"""Figures for the pages: matplotlib, readable on a phone, in the dark, and without telling colours apart.

Each function returns a figure that pyplot has forgotten, so that a cell which ends in the call shows it exactly once.
A picture needs a description on the site. That stands in the cell's metadata, ``mystnb: {image: {alt: "…"}}``: what a
reader who does not see the picture should know of it, without numbers that change.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from air_tutorials.errors import ConfigError

# Source: M. Okabe and K. Ito, Color Universal Design, 2008; free to use.
_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
_RED = "#a34700"  # Vermilion, darkened until text can be read on white.
_LINES = [(_BLUE, "-", "o"), (_VERMILION, "--", "s"), (_GREEN, ":", "^"), (_PURPLE, "-.", "D"), (_ORANGE, "-", "v")]
_WIDTH_INCHES = 6.4
# A figure is about 600 pixels wide on a page and 340 on a phone, where 13 points are still legible.
_STYLE: dict[Any, Any] = {
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.size": 13,
    "grid.color": "#dddddd",
}


def plot_loss_curves(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Plot loss and accuracy on the test data after each epoch, of several runs in one figure.

    Args:
        runs: by the name of the run, the metrics of each epoch as ``train_func`` returns them: ``loss``, at least 0,
            and ``accuracy`` in [0, 1]; and ``epoch``, counted from 0, or the run begins at the first. Runs that agree
            lie upon each other, and the first is drawn broadly behind the rest.

    Raises:
        ConfigError: no run is given, or a run has no epoch.
    """
    if not runs or not all(runs.values()):
        empty = [name for name, metrics in runs.items() if not metrics]
        raise ConfigError(f"Nothing to plot: {f'run {empty[0]!r} has no epoch' if empty else 'runs is empty'}.")
    with new_figure(6.4, nrows=2, sharex=True) as (figure, axes):
        for number, (name, metrics) in enumerate(runs.items()):
            color, linestyle, marker = _LINES[number % len(_LINES)]
            epochs = [metric.get("epoch", position) + 1 for position, metric in enumerate(metrics)]
            width, alpha = (6, 0.5) if number == 0 and len(runs) > 1 else (2, 1.0)
            for ax, key, scale in ((axes[0], "loss", 1), (axes[1], "accuracy", 100)):
                (line,) = ax.plot(epochs, [scale * metric[key] for metric in metrics], color=color, label=name)
                line.set(linestyle=linestyle, linewidth=width, alpha=alpha, marker=marker, markersize=width + 3)
        axes[0].set_ylabel("test loss")
        axes[0].legend()
        axes[1].set(xlabel="epoch", ylabel="test accuracy (%)")
        axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def plot_step_losses(epochs: Sequence[float], losses: Sequence[float], *, title: str = "") -> Figure:
    """Plot the training loss of each step.

    Args:
        epochs: how many were done at each step, in fractions.
        losses: as many.
        title: what was trained.
    """
    with new_figure(3.2) as (figure, axes):
        axes[0].plot(epochs, losses, color=_BLUE, linewidth=1.5, marker="" if len(losses) > 1 else "o")
        axes[0].set(xlabel="epochs done", ylabel="training loss", title=title, xlim=(0, None))
        axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def plot_images(
    images: ArrayLike,
    true_labels: ArrayLike,
    predicted_labels: ArrayLike | None = None,
    *,
    classes: Sequence[str],
    columns: int = 4,
) -> Figure:
    """Show images in a grid with their true class, and with the predicted one; wrong ones get a cross and a frame.

    Args:
        images: (images, channels, height, width) or (images, height, width), 1 or 3 channels; uint8, or float in
            [0, 1]. Values outside, as of normalised images, are stretched to the range of all images given.
        true_labels: int (images,), indices into ``classes``.
        predicted_labels: int (images,), or None to show the true classes alone.
        classes: names of the classes.
        columns: images in a row.

    Raises:
        ConfigError: lengths or shapes do not fit together, or a label has no class.
    """
    pixels, truth = _as_pixels(images), _as_labels(true_labels, classes, "true_labels")
    guesses = truth if predicted_labels is None else _as_labels(predicted_labels, classes, "predicted_labels")
    if not len(pixels) == len(truth) == len(guesses) > 0:
        lengths = f"{len(pixels)} images, {len(truth)} true and {len(guesses)} predicted labels"
        raise ConfigError(f"{lengths} cannot be shown. Give equally many of each, and at least one.")
    rows = math.ceil(len(pixels) / columns)
    height_inches = rows * (_WIDTH_INCHES / columns + (0.35 if predicted_labels is None else 0.6))
    with new_figure(height_inches, nrows=rows, ncols=columns) as (figure, axes):
        for ax in axes:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=False, color=_VERMILION, linewidth=4)
        for ax, image, true, predicted in zip(axes, pixels, truth, guesses, strict=False):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            is_wrong = true != predicted
            caption = f"✗ {classes[predicted]}\nis {classes[true]}" if is_wrong else f"\n✓ {classes[true]}"
            if predicted_labels is None:
                caption = classes[true]
            size, color = _fitting_size(caption, columns), _RED if is_wrong else "black"
            ax.set_title(caption, fontsize=size, color=color, loc="left")
            ax.spines[:].set_visible(is_wrong)
    return figure


def plot_confusion_matrix(true_labels: ArrayLike, predicted_labels: ArrayLike, *, classes: Sequence[str]) -> Figure:
    """Show how many images of each class were taken for which: right ones blue on the diagonal, mistakes orange.

    The shade tells the share among the images of the same true class; the number is the count, and 0 is left out.

    Args:
        true_labels: int (images,), indices into ``classes``.
        predicted_labels: int (images,).
        classes: names of the classes.

    Raises:
        ConfigError: there are not as many labels of one kind as of the other, or a label has no class.
    """
    counts = confusion_matrix(true_labels, predicted_labels, num_classes=len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    is_right = np.eye(len(classes), dtype=bool)[..., None]
    # The root makes rare mistakes visible.
    shades = np.where(is_right, plt.get_cmap("Blues")(0.5 * shares), plt.get_cmap("Oranges")(shares**0.5))
    shades[counts == 0] = 1.0
    with new_figure(_WIDTH_INCHES) as (figure, axes):
        axes[0].imshow(shades)
        axes[0].grid(visible=False)
        small = min(13.0, 130 / len(classes))
        for row, column in zip(*np.nonzero(counts), strict=True):
            # Where the luminance (WCAG 2.2) is below 0.18, white has the better contrast.
            color = "white" if shades[row, column, :3] ** 2.2 @ (0.2126, 0.7152, 0.0722) < 0.18 else "black"
            style: dict[str, Any] = {"color": color, "fontsize": small, "ha": "center", "va": "center"}
            axes[0].text(column, row, str(counts[row, column]), **style)
        ticks = range(len(classes))
        axes[0].set(xlabel="predicted class", ylabel="true class", yticks=ticks, xticks=ticks)
        axes[0].set_yticklabels(classes, fontsize=small)
        axes[0].set_xticklabels(classes, fontsize=small, rotation=45, ha="right", rotation_mode="anchor")
    return figure


def confusion_matrix(true_labels: ArrayLike, predicted_labels: ArrayLike, *, num_classes: int) -> NDArray[np.int64]:
    """Count for each pair of classes how many samples of the first were taken for the second.

    Args:
        true_labels: int (samples,) in [0, num_classes).
        predicted_labels: int (samples,) in [0, num_classes).
        num_classes: at least 1.

    Returns:
        int64 (num_classes, num_classes); a row for each true class, a column for each predicted one.

    Raises:
        ConfigError: there are not as many labels of one kind as of the other, or a label is out of range.

    >>> confusion_matrix([0, 1, 1], [0, 0, 1], num_classes=2).tolist()
    [[1, 0], [1, 1]]
    """
    truth = _as_labels(true_labels, range(num_classes), "true_labels")
    guesses = _as_labels(predicted_labels, range(num_classes), "predicted_labels")
    if len(truth) != len(guesses):
        raise ConfigError(f"{len(truth)} true and {len(guesses)} predicted labels: give one of each for every sample.")
    return np.bincount(truth * num_classes + guesses, minlength=num_classes**2).reshape(num_classes, num_classes)


@contextmanager
def new_figure(height_inches: float, **subplots: Any) -> Iterator[tuple[Figure, list[Axes]]]:
    """Make a figure in the style of the pages, as wide as their text; pyplot forgets it at the end of the block."""
    with plt.rc_context(_STYLE):
        size = (_WIDTH_INCHES, height_inches)
        figure, axes = plt.subplots(figsize=size, layout="constrained", squeeze=False, **subplots)
        try:
            yield figure, list(axes.flat)
        finally:
            plt.close(figure)


def _as_pixels(images: ArrayLike) -> NDArray[np.float64]:
    """Return images as (images, height, width) or (images, height, width, 3) in [0, 1]."""
    array = np.asarray(images)
    if array.ndim == 4 and array.shape[1] in (1, 3):
        array = array[:, 0] if array.shape[1] == 1 else np.moveaxis(array, 1, -1)
    elif array.ndim != 3:
        hint = "Give (images, height, width), or (images, channels, height, width) with 1 or 3 channels"
        raise ConfigError(f"images has the shape {array.shape}. {hint}; for a single image, images[None].")
    pixels = array / 255 if array.dtype == np.uint8 else array.astype(float)
    low, high = (pixels.min(), pixels.max()) if pixels.size else (0, 1)
    return (pixels - low) / ((high - low) or 1.0) if low < 0 or high > 1 else pixels


def _as_labels(labels: ArrayLike, classes: Sequence[Any], name: str) -> NDArray[np.int64]:
    array = np.asarray(labels)
    array = array if array.size else array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ConfigError(f"{name} has the shape {array.shape} and holds {array.dtype}. Give whole numbers in one row.")
    wrong = array[(array < 0) | (array >= len(classes))]
    if wrong.size:
        raise ConfigError(f"{name} holds {wrong[0]}, but there are {len(classes)} classes: 0 to {len(classes) - 1}.")
    return array.astype(np.int64)


def _fitting_size(caption: str, columns: int) -> float:
    longest = max(map(len, caption.splitlines()))
    # A letter is about 0.6 of the font size wide, and an inch has 72 points.
    return min(13.0, _WIDTH_INCHES * 0.9 / columns * 72 / (0.6 * longest))
