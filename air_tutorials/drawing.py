"""Draw thousands of small pictures at once, with the same bytes on every machine.

All pictures of one pose are drawn together: each layer's outline is placed once for each picture (shifted, turned,
sized, bent) and filled with smooth edges.

Only operations that IEEE 754 rounds in one way are used: +, -, ×, ÷, square root and floor, element by element, and
sums of integers. Sums of floats, matrix products, sines and powers differ in their last bit between processors.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from air_tutorials.outlines import Layer

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]

# Scanlines to a row of pixels, and steps across a pixel: a covered area is exact to 1/256 of a pixel.
_LINES = 4
_STEPS = 64


class Dice:
    """Random numbers that no machine and no version of NumPy changes.

    NumPy promises to keep the raw stream of PCG64 as it is, but not what ``Generator`` makes of it.

    Args:
        seed: one number or several.
    """

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Floats:
        """Return numbers that are all as likely.

        Args:
            low: the least.
            high: above the greatest.
            shape: of the result.

        Returns:
            float64 in [low, high).
        """
        return low + (high - low) * ((self._raw(*shape) >> 11).astype(np.float64) * 2.0**-53)

    def integers(self, limit: int, *shape: int) -> NDArray[np.int64]:
        """Return int64 of that shape in [0, limit); limit is at most 2**32."""
        return ((self._raw(*shape) >> 32) * limit >> 32).astype(np.int64)

    def noise(self, *shape: int) -> Pixels:
        """Return float32 of that shape in [-1, 1), most of it near 0; the last size must be a multiple of 4."""
        octets = self._raw(*shape[:-1], shape[-1] // 4).astype("<u8").view(np.uint8).astype(np.float32)
        return (octets[..., ::2] + octets[..., 1::2]) * 2.0**-8 - 1

    def permutation(self, count: int) -> NDArray[np.int64]:
        """Return the numbers below count in random order."""
        return np.argsort(self._raw(count), kind="stable")

    def _raw(self, *shape: int) -> NDArray[np.uint64]:
        return self._bits.random_raw(math.prod(shape)).reshape(shape)


def clouds(dice: Dice, count: int, side: int, cells: int) -> Pixels:
    """Return smooth random spots.

    Args:
        dice: the source of chance.
        count: how many pictures.
        side: of a picture, in pixels.
        cells: about how many spots there are from edge to edge.

    Returns:
        float32 (count, 1, side, side) in [-1, 1).
    """
    grid = dice.uniform(-1, 1, count, 1, cells + 1, cells + 1).astype(np.float32)
    at = np.arange(side) * (cells / side)
    cell = np.floor(at).astype(int)
    part = (at - cell).astype(np.float32)
    rows = grid[:, :, cell] * (1 - part)[:, None] + grid[:, :, cell + 1] * part[:, None]
    return rows[..., cell] * (1 - part) + rows[..., cell + 1] * part


def place(
    dice: Dice,
    count: int,
    *,
    half_side: tuple[float, float],
    shift: tuple[float, float],
    turn: float,
    bend: float,
    mirror: bool = False,
) -> Floats:
    """Choose for each picture where the square of its drawing lies.

    Args:
        dice: the source of chance.
        count: how many pictures.
        half_side: least and greatest distance from the square's middle to its sides, in pixels.
        shift: greatest distance of its middle from the picture's, in pixels, across and down.
        turn: greatest turn to either side, as the tangent of half the angle.
        bend: greatest share by which it is squeezed, slanted and bent.
        mirror: whether half of the pictures show the mirror image.

    Returns:
        float64 (count, 2, 6): for both pixel coordinates the coefficients of 1, x, y, x², xy, y².
    """
    half = dice.uniform(*half_side, count)
    tangent = dice.uniform(-turn, turn, count)
    norm = 1 + tangent * tangent
    cosine, sine = (1 - tangent * tangent) / norm * half, 2 * tangent / norm * half
    flip = 1 - 2 * dice.integers(2, count) if mirror else np.ones(count)
    result = dice.uniform(-bend, bend, count, 2, 6) * half[:, None, None]
    result[:, :, 0] = dice.uniform(-1, 1, count, 2) * shift
    result[:, 0, 1:3] += np.stack([cosine * flip, -sine], axis=1)
    result[:, 1, 1:3] += np.stack([sine * flip, cosine], axis=1)
    return result


def paint(
    canvas: Pixels,
    layers: Sequence[Layer],
    placement: Floats,
    palette: Mapping[str, Floats],
    slide: Floats,
    light: Pixels,
) -> None:
    """Draw the layers onto every picture.

    Args:
        canvas: float32 (count, channels, side, side), changed in place.
        layers: the lowest first.
        placement: as ``place`` returns it.
        palette: for each name of a colour float64 (count, channels).
        slide: float64 (count,) in [0, 1]: where between its start and its end each outline lies.
        light: float32 (count, 1, side, side), by which colours are multiplied.
    """
    side = canvas.shape[-1]
    for layer in layers:
        outline = layer.start + slide[:, None, None] * (layer.end - layer.start)
        x, y = outline[:, None, :, 0], outline[:, None, :, 1]
        factors = enumerate((np.ones_like(x), x, y, x * x, x * y, y * y))
        points = sum((placement[:, :, i, None] * factor for i, factor in factors), start=side / 2)
        # The smallest box around the layer's place in any of the pictures.
        left, top = np.clip(np.floor(points.min(axis=(0, 2))), 0, side).astype(int)
        right, bottom = np.clip(np.ceil(points.max(axis=(0, 2))), 0, side).astype(int)
        if left < right and top < bottom:
            cover = _cover(points[:, 0] - left, points[:, 1] - top, right - left, bottom - top)
            box = (slice(None), slice(None), slice(top, bottom), slice(left, right))
            colour = (palette[layer.colour] * layer.shade).astype(np.float32)[:, :, None, None]
            canvas[box] += cover * (colour * light[box] - canvas[box])


def _cover(x: Floats, y: Floats, width: int, height: int) -> Pixels:
    """Return what share of each pixel lies inside the outline.

    Args:
        x: float64 (count, points): corners of the outlines, in pixels from the left.
        y: float64 (count, points): the same from the top.
        width: pixels across.
        height: pixels down.

    Returns:
        float32 (count, 1, height, width) in [0, 1].
    """
    count, corners = x.shape
    next_x, next_y = np.roll(x, -1, axis=1).ravel(), np.roll(y, -1, axis=1).ravel()
    x, y = x.ravel(), y.ravel()
    # A scanline runs through the middle of its strip. An edge crosses those that lie between its ends.
    first, last = (
        np.clip(np.ceil(end(y, next_y) * _LINES - 0.5), 0, height * _LINES).astype(np.int64)
        for end in (np.minimum, np.maximum)
    )
    crossings = last - first
    edge = np.repeat(np.arange(len(x)), crossings)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings - first, crossings)
    slope = (next_x - x) / np.where(crossings > 0, next_y - y, 1)
    at = x[edge] + slope[edge] * ((line + 0.5) / _LINES - y[edge])
    at = np.floor(np.clip(at, 0, width) * _STEPS).astype(np.int64)
    # From each crossing to the right the outline winds once more, or once less, around the rest of the scanline.
    winding = np.where(next_y > y, 1, -1)[edge]
    cell = (edge // corners * height + line // _LINES) * (width + 2) + at // _STEPS
    part = winding * (at % _STEPS)
    change = np.bincount(cell, winding * _STEPS - part, count * height * (width + 2))
    change += np.bincount(cell + 1, part, len(change))
    inside = np.cumsum(change.reshape(count, 1, height, width + 2), axis=-1)[..., :width]
    return np.minimum(np.abs(inside) / (_STEPS * _LINES), 1).astype(np.float32)
