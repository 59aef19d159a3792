"""Outlines, chance, and how much of a pixel an outline covers, against PIL and by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from air_tutorials.drawing import Dice, clouds, paint, place
from air_tutorials.outlines import Layer, parse_kinds


def painted(points: list[tuple[float, float]], side: int = 16) -> np.ndarray:
    """Paint a white polygon, in pixels, onto one black picture."""
    outline = np.array(points, float)
    layer = Layer("white", 1.0, outline, outline)
    as_it_is = np.zeros((1, 2, 6))
    as_it_is[0, 0, 1] = as_it_is[0, 1, 2] = 1
    as_it_is[0, :, 0] = -side / 2
    canvas = np.zeros((1, 1, side, side), np.float32)
    paint(canvas, [layer], as_it_is, {"white": np.ones((1, 1))}, np.zeros(1), np.ones_like(canvas))
    return canvas[0, 0]


def test_a_pixel_shows_how_much_of_it_is_covered() -> None:
    picture = painted([(1.5, 2), (4, 2), (4, 3.25), (1.5, 3.25)])
    assert picture[2, 0:5].tolist() == [0, 0.5, 1, 1, 0]
    assert picture[3, 0:5].tolist() == [0, 0.125, 0.25, 0.25, 0]
    assert picture.sum() == 2.5 * 1.25


def test_what_reaches_beyond_the_picture_is_cut_off() -> None:
    assert painted([(-9, -9), (40, -9), (40, 8), (-9, 8)]).sum() == 16 * 8
    assert painted([(20, 20), (30, 20), (30, 30)]).sum() == 0


@given(st.lists(st.tuples(st.floats(-4, 20), st.floats(-4, 20)), min_size=3, max_size=3))
def test_triangles_are_as_pil_fills_them_eight_times_larger(corners: list[tuple[float, float]]) -> None:
    scale = 8
    large = Image.new("L", (16 * scale, 16 * scale))
    ImageDraw.Draw(large).polygon([(x * scale - 0.5, y * scale - 0.5) for x, y in corners], fill=1)
    expected = np.asarray(large, float).reshape(16, scale, 16, scale).mean(axis=(1, 3))
    # PIL also fills the pixels that an edge touches, and it has 8 scanlines a row where we have 4.
    assert np.abs(painted(corners) - expected).max() < 0.5
    assert np.abs(painted(corners) - expected).mean() < 0.04


def test_mirrored_pictures_are_mirror_images() -> None:
    (layer,) = parse_kinds("[flag]\nwhite poly 20,10 90,40 20,60")[0].poses[0]
    (twin,) = parse_kinds("[flag]\nwhite poly 80,10 10,40 80,60")[0].poses[0]
    straight = painted([(x * 8 + 8, y * 8 + 8) for x, y in layer.start])
    # A place in a pixel is rounded down to 1/64, which is the other way round in the mirror.
    assert np.abs(straight[:, ::-1] - painted([(x * 8 + 8, y * 8 + 8) for x, y in twin.start])).max() <= 1 / 64
    placement = place(Dice(1), 50, half_side=(8, 8), shift=(0, 0), turn=0, bend=0, mirror=True)
    assert set(placement[:, 0, 1]) == {-8, 8}
    assert set(placement[:, 1, 2]) == {8}


def test_chance_is_even_and_within_its_bounds() -> None:
    dice = Dice(1, 2)
    uniform, integers, noise = dice.uniform(-1, 3, 100_000), dice.integers(5, 100_000), dice.noise(100, 4, 28)
    assert uniform.min() >= -1
    assert uniform.max() < 3
    assert np.abs(np.histogram(uniform, 8)[0] / 12_500 - 1).max() < 0.05
    assert np.abs(np.bincount(integers) / 20_000 - 1).max() < 0.05
    assert np.abs(noise).max() < 1
    assert abs(noise.mean()) < 0.02
    assert sorted(dice.permutation(1_000)) == list(range(1_000))
    assert Dice(1, 2).integers(1_000) != Dice(2, 1).integers(1_000)


def test_clouds_are_smooth_and_random() -> None:
    spots = clouds(Dice(1), 500, 28, 5)
    assert spots.shape == (500, 1, 28, 28)
    assert np.abs(spots).max() < 1
    assert abs(spots.mean()) < 0.02
    assert np.abs(np.diff(spots, axis=-1)).max() <= 2 * 5 / 28 + 1e-6
    assert np.abs(np.diff(spots, axis=-2)).max() <= 2 * 5 / 28 + 1e-6


def test_a_drawing_is_read_as_it_is_described() -> None:
    text = """[Cat]
sizes: big small
fur blob| 50,0 90,0 90,50 50,50

eye*.5 line4-8 20,20>30,20 20,80

[Dog]
eye poly+ 60,20 80,20 70,40"""
    first, second = parse_kinds(text)
    assert (first.name, first.settings, second.name) == ("Cat", {"sizes": ["big", "small"]}, "Dog")
    (fur,), (eye,) = first.poses
    assert np.allclose(sorted(fur.start[:, 0]), sorted(-fur.start[:, 0]))
    assert len(fur.start) == 8 * 4
    assert (eye.colour, eye.shade) == ("eye", 0.5)
    assert np.ptp(eye.start[:, 0]) < np.ptp(eye.end[:, 0])
    left, right = second.poses[0]
    assert np.array_equal(left.start, right.start * [-1, 1])
