"""Look at what a model predicted image by image: filter by class and confidence, and go through the mistakes."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from air_tutorials.errors import ConfigError
from air_tutorials.explorer import Answer, Explorer, labelled, sentences, table
from air_tutorials.plots import plot_images

ANY = "any"
_NUM_STORED = 12
_BLUE = "#2a8bd2"  # Contrast of at least 3 on white as well as on black.
_PICTURE = "width: 12em; height: 12em; image-rendering: pixelated"
_SIDE_BY_SIDE = "display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start"


@dataclass(frozen=True)
class Predictions:
    """Images with what a model said of them.

    Args:
        images: uint8 (images, channels, height, width), 1 or 3 channels.
        labels: int (images,), indices into ``classes``.
        probabilities: float (images, classes), each row in [0, 1] with a sum of 1.
        classes: their names.

    Raises:
        ConfigError: the shapes do not fit each other, or the numbers are no probabilities.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: Sequence[str]

    def __post_init__(self) -> None:
        num_images, num_classes = len(self.labels), len(self.classes)
        shapes = (len(self.images), *self.probabilities.shape)
        if shapes != (num_images, num_images, num_classes) or not num_images:
            raise ConfigError(
                f"{len(self.images)} images, {num_images} labels, {num_classes} classes and probabilities of the shape "
                f"{self.probabilities.shape} do not fit. Give each image a label and {num_classes} probabilities."
            )
        if self.images.ndim != 4 or self.images.shape[1] not in (1, 3) or self.images.dtype != np.uint8:
            given = f"{self.images.dtype} of the shape {self.images.shape}"
            raise ConfigError(f"images are {given}. Give uint8 (images, channels, height, width), 1 or 3 channels.")
        if self.labels.min() < 0 or self.labels.max() >= num_classes:
            given = f"The labels go from {self.labels.min()} to {self.labels.max()}"
            raise ConfigError(f"{given}, but there are {num_classes} classes: 0 to {num_classes - 1}.")
        sums = self.probabilities.sum(axis=1)
        if self.probabilities.min() < 0 or not np.allclose(sums, 1, atol=1e-3):
            raise ConfigError(
                f"The probabilities of an image sum to {sums[np.abs(sums - 1).argmax()]:.4g}, and not to 1. Give the "
                "softmax of the logits."
            )

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidences(self) -> NDArray[np.float64]:
        """Its probability."""
        return self.probabilities.max(axis=1)

    def matching(
        self, true_class: str, predicted_class: str, lowest: float, highest: float, only_mistakes: bool
    ) -> NDArray[np.int64]:
        """Return the numbers of the images that pass a filter, the most confident first.

        Args:
            true_class: a name, or ``ANY``.
            predicted_class: likewise.
            lowest: confidence in percent.
            highest: likewise.
            only_mistakes: leave out what was predicted correctly.
        """
        percent = 100 * self.confidences
        passed = (percent >= lowest) & (percent <= highest)
        for name, numbers in ((true_class, self.labels), (predicted_class, self.predicted)):
            if name != ANY:
                passed &= numbers == list(self.classes).index(name)
        if only_mistakes:
            passed &= self.predicted != self.labels
        found = np.flatnonzero(passed)
        return found[np.argsort(-self.confidences[found], kind="stable")]


def explore_predictions(
    images: ArrayLike, labels: ArrayLike, probabilities: ArrayLike, *, classes: Sequence[str]
) -> Explorer:
    """Let the reader filter predictions and go through the images, beginning with the surest mistake.

    In the stored notebook a grid of the twelve surest mistakes takes its place.

    Args:
        images: uint8 (images, channels, height, width), 1 or 3 channels.
        labels: int (images,), indices into ``classes``.
        probabilities: float (images, classes), each row with a sum of 1.
        classes: their names.

    Raises:
        ConfigError: the shapes do not fit each other, or the numbers are no probabilities.
    """
    told = Predictions(np.asarray(images), np.asarray(labels), np.asarray(probabilities, dtype=float), classes)
    choices = [ANY, *classes]
    percent = {"min": 0, "max": 100, "step": 5}
    controls = {
        "true_class": labelled(ipywidgets.Dropdown, "True class", options=choices),
        "predicted_class": labelled(ipywidgets.Dropdown, "Predicted class", options=choices),
        "lowest": labelled(ipywidgets.BoundedFloatText, "Confidence from (%)", value=0, **percent),
        "highest": labelled(ipywidgets.BoundedFloatText, "Confidence to (%)", value=100, **percent),
        "only_mistakes": labelled(ipywidgets.Checkbox, "Only mistakes", value=True, indent=False),
        "position": labelled(ipywidgets.BoundedIntText, "Image", value=1, min=1, max=len(told.labels)),
    }
    buttons = [ipywidgets.Button(description=description) for description in ("Previous", "Next")]
    filters = {name: control for name, control in controls.items() if name != "position"}

    def move(by: int) -> None:
        found = told.matching(**{name: control.value for name, control in filters.items()})
        controls["position"].value = (controls["position"].value - 1 + by) % max(len(found), 1) + 1

    def begin_anew(_: Any) -> None:
        controls["position"].value = 1

    for button, by in zip(buttons, (-1, 1), strict=True):
        button.on_click(lambda _, by=by: move(by))
    for control in filters.values():
        control.observe(begin_anew, names="value")
    return Explorer(
        controls,
        lambda position, **settings: _answer(told, told.matching(**settings), position),
        stand_in=lambda: _grid(told),
        buttons=buttons,
    )


def _answer(told: Predictions, found: NDArray[np.int64], position: int) -> Answer:
    if not len(found):
        said = f"None of {len(told.labels):,} images passes the filter."
        return Answer(sentences([said]), said)
    position = min(position, len(found))
    number = found[position - 1]
    true, predicted = (told.classes[each[number]] for each in (told.labels, told.predicted))
    caption = f"Image {position} of {len(found):,} that pass, of {len(told.labels):,}: number {number}, "
    caption += f"{true}, predicted as {predicted} with {told.confidences[number]:.1%}"
    rows = [
        (name, share, " and ".join(what for what, which in (("true", true), ("predicted", predicted)) if name == which))
        for name, share in zip(told.classes, told.probabilities[number], strict=True)
    ]
    bars = table(
        ["class", "probability", ""],
        [[html.escape(name), _bar(share), html.escape(what)] for name, share, what in rows],
    )
    source = f"data:image/png;base64,{_png(told.images[number])}"
    picture = f'<img src="{source}" alt="{html.escape(true)}, number {number}" style="{_PICTURE}">'
    markup = f'<div style="{_SIDE_BY_SIDE}">{picture}<div>{bars}</div></div>'
    lines = [f"{name}: {share:.1%} {what}".rstrip() for name, share, what in rows]
    return Answer(sentences([f"{caption}."]) + markup, "\n".join([f"{caption}.", *lines]))


def _grid(told: Predictions) -> Answer:
    """Show the mistakes that the model was surest of, or the images if there is none."""
    mistakes = told.matching(ANY, ANY, 0, 100, only_mistakes=True)
    shown = (mistakes if len(mistakes) else np.arange(len(told.labels)))[:_NUM_STORED]
    # Not how many mistakes there are: that changes with the processor on which the model was trained.
    said = f"the {len(shown)} images that were taken for another class with the most confidence"
    said = said if len(mistakes) else "no image was taken for another class; these are the first"
    figure = plot_images(told.images[shown], told.labels[shown], told.predicted[shown], classes=told.classes)
    picture = io.BytesIO()
    # Without matplotlib's version in it, so that an update of matplotlib changes no stored page.
    figure.savefig(picture, format="png", metadata={"Software": None})
    return Answer(sentences([said]), said, picture.getvalue())


def _bar(share: float) -> str:
    bar = f'<span style="display: inline-block; width: {6 * share:.2f}em; height: 0.7em; background: {_BLUE}"></span>'
    return f"{bar} {share:.1%}"


def _png(image: NDArray[np.uint8]) -> str:
    pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="png")
    return base64.b64encode(file.getvalue()).decode()
