import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from air_tutorials.errors import ConfigError
from air_tutorials.plots import confusion_matrix, plot_confusion_matrix, plot_images, plot_loss_curves, plot_step_losses

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
RUNS = {
    "one process": [{"epoch": 0, "loss": 1.2, "accuracy": 0.5}, {"epoch": 1, "loss": 0.8, "accuracy": 0.75}],
    "two workers": [{"epoch": 1, "loss": 0.7, "accuracy": 0.8}],
}


def drawn(figure: Figure) -> np.ndarray:
    """Draw a figure as a notebook does, and return its pixels: uint8 (height, width, 3)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_loss_curves_hold_the_metrics_they_were_given() -> None:
    loss, accuracy = plot_loss_curves(RUNS).axes
    assert [line.get_xydata().tolist() for line in loss.lines] == [[[1, 1.2], [2, 0.8]], [[2, 0.7]]]
    assert [line.get_xydata().tolist() for line in accuracy.lines] == [[[1, 50], [2, 75]], [[2, 80]]]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == list(RUNS)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("test loss", "test accuracy (%)")
    assert accuracy.get_xlabel() == "epoch"


def test_two_runs_that_agree_can_both_be_seen() -> None:
    lines = plot_loss_curves({"one": RUNS["one process"], "two": RUNS["one process"]}).axes[0].lines
    assert lines[0].get_linewidth() > 2 * lines[1].get_linewidth()
    assert lines[0].get_linestyle() != lines[1].get_linestyle()


def test_step_losses_hold_the_losses_they_were_given() -> None:
    (ax,) = plot_step_losses([0.5, 1.0], [0.9, 0.7], title="Training").axes
    assert ax.lines[0].get_xydata().tolist() == [[0.5, 0.9], [1.0, 0.7]]
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("Training", "epochs done", "training loss")


@pytest.mark.parametrize("losses", [[float("nan")] * 3, [1.0, float("inf"), 0.5]])
def test_a_loss_that_diverged_can_be_plotted(losses: list[float]) -> None:
    drawn(plot_step_losses([1, 2, 3], losses))


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_images_show_the_pixels_and_classes_they_were_given(channels: int | None) -> None:
    images = torch.rand(5, 8, 8) if channels is None else torch.rand(5, channels, 8, 8)
    figure = plot_images(images, torch.arange(5), torch.tensor([0, 1, 4, 3, 2]), classes=CLASSES)
    shown = [ax for ax in figure.axes if ax.images]
    for ax, image in zip(shown, images, strict=True):
        expected = image.permute(1, 2, 0) if channels == 3 else image.reshape(8, 8)
        np.testing.assert_allclose(ax.images[0].get_array(), expected)
        assert ax.images[0].get_clim() == (0, 1)
    captions = [ax.get_title(loc="left").strip() for ax in shown]
    assert captions == ["✓ T-shirt/top", "✓ Trouser", "✗ Coat\nis Pullover", "✓ Dress", "✗ Pullover\nis Coat"]
    framed = [ax.spines["left"].get_visible() for ax in shown]
    assert framed == [False, False, True, False, True]


def test_images_without_predictions_show_the_true_class() -> None:
    figure = plot_images(np.zeros((2, 8, 8)), [3, 9], classes=CLASSES, columns=2)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Dress", "Ankle boot"]


@pytest.mark.parametrize(
    ("pixels", "shown"),
    [
        (np.array([0, 51, 255], dtype=np.uint8), [0, 0.2, 1]),
        (np.array([0.25, 0.5, 0.75]), [0.25, 0.5, 0.75]),
        (np.array([-1.0, 0.0, 1.0]), [0, 0.5, 1]),
        (np.array([7.0, 7.0, 7.0]), [0, 0, 0]),
    ],
)
def test_images_of_bytes_and_normalised_images_are_brought_to_the_range_that_can_be_shown(
    pixels: np.ndarray, shown: list[float]
) -> None:
    figure = plot_images(pixels.reshape(1, 1, 3), [0], classes=CLASSES)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [shown])


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4))))
def test_the_confusion_matrix_is_that_of_sklearn(pairs: list[tuple[int, int]]) -> None:
    true_labels, predicted_labels = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    counts = confusion_matrix(true_labels, predicted_labels, num_classes=5)
    if pairs:  # sklearn refuses an empty one
        expected = sklearn.metrics.confusion_matrix(true_labels, predicted_labels, labels=range(5))
        np.testing.assert_array_equal(counts, expected)
    assert counts.shape == (5, 5)
    assert counts.sum() == len(pairs)


def test_the_plot_of_a_confusion_matrix_shows_its_counts_where_they_belong() -> None:
    rng = np.random.default_rng(0)
    true_labels = rng.integers(0, 10, 500)
    predicted_labels = np.where(rng.random(500) < 0.8, true_labels, rng.integers(0, 10, 500))
    (ax,) = plot_confusion_matrix(torch.tensor(true_labels), torch.tensor(predicted_labels), classes=CLASSES).axes
    counts = np.zeros((10, 10), dtype=int)
    for text in ax.texts:
        column, row = text.get_position()
        counts[row, column] = int(text.get_text())
    np.testing.assert_array_equal(counts, sklearn.metrics.confusion_matrix(true_labels, predicted_labels))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(CLASSES)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(CLASSES)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")


def test_numbers_and_class_names_of_a_confusion_matrix_neither_overlap_nor_leave_the_figure() -> None:
    labels = np.repeat(np.arange(10), 1000)
    figure = plot_confusion_matrix(labels, labels, classes=CLASSES)
    drawn(figure)
    (ax,) = figure.axes
    for texts in (ax.get_yticklabels(), ax.texts):
        boxes = [text.get_window_extent() for text in texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


def test_text_in_a_confusion_matrix_has_the_contrast_that_wcag_asks_for() -> None:
    rng = np.random.default_rng(0)
    (ax,) = plot_confusion_matrix(rng.integers(0, 9, 300) ** 2 // 9, rng.integers(0, 8, 300), classes=CLASSES).axes

    def luminance(color: object) -> float:
        rgb = np.array(plt.matplotlib.colors.to_rgb(color))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    shades = ax.images[0].get_array()
    for text in ax.texts:
        column, row = text.get_position()
        dark, light = sorted([luminance(text.get_color()), luminance(shades[row, column, :3])])
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize(
    "figure",
    [
        plot_loss_curves(RUNS),
        plot_step_losses([1], [0.5]),
        plot_images(np.zeros((3, 8, 8)), [0, 1, 2], [1, 1, 1], classes=CLASSES),
        plot_confusion_matrix([0, 1], [1, 1], classes=CLASSES),
    ],
    ids=["loss curves", "step losses", "images", "confusion matrix"],
)
def test_a_figure_is_closed_white_and_draws_without_a_warning(figure: Figure) -> None:
    assert not plt.get_fignums(), "a figure that pyplot keeps would be shown twice"
    pixels = drawn(figure)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert 320 <= pixels.shape[1] <= 660, "about the width of a page"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_loss_curves({}), "runs is empty"),
        (lambda: plot_loss_curves({"one": [], "two": RUNS["one process"]}), "'one' has no epoch"),
        (lambda: plot_images(np.zeros((8, 8)), [0], classes=CLASSES), r"\(8, 8\)"),
        (lambda: plot_images(np.zeros((2, 2, 8, 8)), [0, 1], classes=CLASSES), r"\(2, 2, 8, 8\)"),
        (lambda: plot_images(np.zeros((2, 8, 8)), [0], classes=CLASSES), "2 images, 1 true"),
        (lambda: plot_images(np.zeros((0, 8, 8)), [], classes=CLASSES), "at least one"),
        (lambda: plot_images(np.zeros((1, 8, 8)), [10], classes=CLASSES), "holds 10, but there are 10 classes"),
        (lambda: confusion_matrix([0, -1], [0, 0], num_classes=2), "holds -1"),
        (lambda: confusion_matrix([0, 1], [0], num_classes=2), "2 true and 1 predicted"),
        (lambda: confusion_matrix([0.5], [0], num_classes=2), "float64"),
        (lambda: confusion_matrix([[0]], [0], num_classes=2), r"shape \(1, 1\)"),
    ],
)
def test_what_cannot_be_plotted_is_refused(call: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
