"""What surrounds the drawings of the embedded sample: cloth and ink, light, backgrounds, noise."""

from typing import NamedTuple

import numpy as np

from air_tutorials.drawing import Dice, Floats, Pixels, clouds, paint, place
from air_tutorials.outlines import Kind, Layer, parse_kinds


class Scene(NamedTuple):
    """A background, in words of colours as RRGGBB of which any may be taken.

    Attributes:
        far: above the horizon.
        near: below it.
        things: what stands on it.
        horizon: its least and greatest height, 0 at the upper edge of the picture and 1 at the lower.
    """

    far: str
    near: str
    things: str
    horizon: tuple[float, float]


SCENES = {
    "sky": Scene("6fa4d8 9cc4e8 c8d4dc 5080c0", "d8e4ec a8cce8 e8e0d0", "f0f4f8 dfe6ee c0ccd8", (0.5, 1.2)),
    "air": Scene("6fa4d8 9cc4e8 c8d4dc", "8a8a84 6f8a50 9a9078", "5c7048 808078 a8a8a0", (0.6, 0.85)),
    "sea": Scene("8fb8dc c8d8e0 e0c8a8 98a8b8", "2f5c80 3f7890 506878 2a4a68", "708890 90a0a0 58706c", (0.35, 0.6)),
    "road": Scene("a8b8c8 c8c0b0 88a0b8 b8c4c0", "585860 707070 8c8880 605850", "987860 68784c a09890", (0.3, 0.6)),
    "grass": Scene("90b4d4 5c7c4c b8c8b8 486840", "6c8c3c 8c9c50 547838 a09458", "3c5c30 586c38 6c6040", (0.2, 0.5)),
    "wood": Scene("4c6038 6c7848 404830 80804c", "6c5c3c 587038 7c6c48 90845c", "30402c 544430 6c7440", (0.1, 0.5)),
    "room": Scene("c8b8a0 a89c90 b8c0c4 786858", "94704c b09c88 6c5848 8c4c44", "5c4438 d8ccb8 486078", (0.3, 0.8)),
    "pond": Scene("4c6c3c 6c8050 38542c", "54644c 3c5c50 707c54 7c6c50", "486c34 80944c 5c5038", (0.1, 0.5)),
}
# Colours that are the same in every picture, a little shade apart.
COLOURS = {"dark": "22222a", "light": "e8e6e0", "glass": "7f9bb0", "red": "b03028", "gold": "e0a030", "pink": "d08088"}

_BUSH, _BLOCK, _MARK = parse_kinds(
    """[things]
thing blob -80,-60>-20,-100 20,-100>60,-60 100,0>80,40 40,80>20,100 -60,60 -100,0

thing poly 0,100 0,0>0,40 100,0 100,100

ink line6-14 10,40>30,10 50,60>40,50 90,30>70,90"""
)[0].poses


def draw_garments(dice: Dice, _: Kind, pose: list[Layer], count: int) -> Pixels:
    """Draw garments on black, plain or striped, with folds.

    Args:
        dice: the source of chance.
        _: the class, which makes no difference here.
        pose: one of its drawings.
        count: how many pictures.

    Returns:
        float32 (count, 1, 28, 28), 0 for black, about 255 for white.
    """
    placement = place(dice, count, half_side=(9.3, 13.8), shift=(2.9, 2.9), turn=0.09, bend=0.08, mirror=True)
    cloth = dice.uniform(90, 230, count, 1)
    trim = np.clip(cloth * dice.uniform(0.55, 1.45, count, 1), 30, 255)
    folds = 0.22 * clouds(dice, count, 28, 5)
    light = (1 + folds) * (1 + _stripes(dice, count)) * (1 + 0.12 * dice.noise(count, 1, 28, 28))
    canvas = np.zeros((count, 1, 28, 28), np.float32)
    palette = {"cloth": cloth, "trim": trim, "dark": cloth * 0.35}
    paint(canvas, pose, placement, palette, dice.uniform(0, 1, count), light)
    return canvas


def _stripes(dice: Dice, count: int) -> Pixels:
    """Return float32 (count, 1, 28, 28) around 0: every third picture striped, across or down."""
    place_in_stripe = dice.uniform(0.1, 0.3, count, 1, 1, 1) * np.arange(28)
    wave = np.abs(place_in_stripe - np.floor(place_in_stripe) - 0.5) * 4 - 1
    depth = np.maximum(dice.uniform(-0.6, 0.3, count, 1, 1, 1), 0)
    across = dice.integers(2, count, 1, 1, 1)
    return (wave * depth * (1 - across) + (wave * depth * across).swapaxes(2, 3)).astype(np.float32)


def draw_digits(dice: Dice, _: Kind, pose: list[Layer], count: int) -> Pixels:
    """Draw digits in uneven ink on black, thin to thick, with a stray mark somewhere.

    Args:
        dice: the source of chance.
        _: the class, which makes no difference here.
        pose: one of its drawings.
        count: how many pictures.

    Returns:
        float32 (count, 1, 28, 28), 0 for black, about 255 for white.
    """
    canvas = np.zeros((count, 1, 28, 28), np.float32)
    ink = 1 + 0.5 * clouds(dice, count, 28, 9)
    mark = place(dice, count, half_side=(1, 7), shift=(14, 14), turn=1, bend=0.1)
    paint(canvas, _MARK, mark, {"ink": dice.uniform(80, 255, count, 1)}, dice.uniform(0, 1, count), ink)
    placement = place(dice, count, half_side=(8.5, 12.5), shift=(3.5, 3.5), turn=0.15, bend=0.2)
    paint(canvas, pose, placement, {"ink": dice.uniform(130, 255, count, 1)}, dice.uniform(0, 1, count), ink)
    return canvas


def draw_scenes(dice: Dice, kind: Kind, pose: list[Layer], count: int) -> Pixels:
    """Draw a thing before a background, in any light.

    Args:
        dice: the source of chance.
        kind: the class, which has ``scenes`` (names in ``SCENES``) and ``bodies`` (colours as RRGGBB).
        pose: one of its drawings.
        count: how many pictures.

    Returns:
        float32 (count, 3, 32, 32), red, green and blue from 0 to about 255.
    """
    names = kind.settings["scenes"]
    canvas = np.empty((count, 3, 32, 32), np.float32)
    # One scene after the other: the pictures are shuffled later.
    bounds = [count * i // len(names) for i in range(len(names) + 1)]
    for name, start, stop in zip(names, bounds, bounds[1:], strict=False):
        _draw_background(dice, SCENES[name], canvas[start:stop])
    placement = place(dice, count, half_side=(11.5, 15.5), shift=(2.5, 2), turn=0.07, bend=0.06, mirror=True)
    from_above = (1.15 - 0.3 * (np.arange(32) + 0.5) / 32).astype(np.float32)[:, None]
    light = (1 + 0.12 * clouds(dice, count, 32, 5)) * from_above
    palette = {name: _colours(dice, code, count) for name, code in COLOURS.items()}
    palette |= {name: _colours(dice, " ".join(kind.settings["bodies"]), count) for name in ("body", "trim")}
    paint(canvas, pose, placement, palette, dice.uniform(0, 1, count), light)
    contrast, brightness = dice.uniform(0.7, 1.1, count, 1, 1, 1), dice.uniform(-25, 25, count, 1, 1, 1)
    canvas *= contrast.astype(np.float32)
    canvas += (128 - 128 * contrast + brightness).astype(np.float32)
    canvas += 10 * dice.noise(count, 3, 32, 32)
    return canvas


def _draw_background(dice: Dice, scene: Scene, canvas: Pixels) -> None:
    count = len(canvas)
    horizon = dice.uniform(*scene.horizon, count)[:, None, None, None]
    across, down = (np.arange(32) + 0.5) / 32, (np.arange(32)[:, None] + 0.5) / 32
    slope = dice.uniform(-0.1, 0.1, count, 1, 1, 1)
    is_near = np.clip((down - horizon + slope * (across - 0.5)) * 24, 0, 1).astype(np.float32)
    haze = (1.12 - 0.3 * np.abs(down - horizon)).astype(np.float32)
    light = 1 + 0.12 * clouds(dice, count, 32, 6)
    canvas[:] = _colours(dice, scene.far, count).astype(np.float32)[:, :, None, None] * haze
    for outline in (_BUSH, _BLOCK):
        placement = place(dice, count, half_side=(2, 6), shift=(14, 2), turn=0.02, bend=0.1)
        placement[:, 1, 0] += horizon[:, 0, 0, 0] * 32 - 18
        palette = {"thing": _colours(dice, scene.things, count)}
        paint(canvas, outline, placement, palette, dice.uniform(0, 1, count), light)
    ground = _colours(dice, scene.near, count).astype(np.float32)[:, :, None, None]
    canvas += is_near * (ground * (light + 0.2 * clouds(dice, count, 32, 12)) - canvas)


def _colours(dice: Dice, codes: str, count: int) -> Floats:
    """Return float64 (count, 3) in [0, 255]: any of the colours RRGGBB, each a shade off."""
    table = np.array([list(bytes.fromhex(code)) for code in codes.split()], float)
    return np.clip(table[dice.integers(len(table), count)] + dice.uniform(-18, 18, count, 3), 0, 255)
