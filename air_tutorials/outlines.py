"""The notation in which the embedded pictures are drawn: classes, poses, and layers of outlines in one colour each."""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


class Layer(NamedTuple):
    """One outline in one colour.

    Attributes:
        colour: its name in the palette.
        shade: the colour is multiplied by it.
        start: float64 (points, 2), x to the right and y downward, in a square from -1 to 1.
        end: float64 (points, 2): each picture's outline lies somewhere between start and end.
    """

    colour: str
    shade: float
    start: Points
    end: Points


class Kind(NamedTuple):
    """All drawings of one class.

    Attributes:
        name: of the class.
        settings: the words behind each ``key:``.
        poses: each a list of layers, the lowest first.
    """

    name: str
    settings: dict[str, list[str]]
    poses: list[list[Layer]]


def parse_kinds(text: str) -> list[Kind]:
    r"""Read drawings: a class begins with ``[its name]``, then ``key: words``, then its poses with empty lines between.

    Each line of a pose is a layer, ``colour[*shade] kind x,y x,y …`` on a square of 0 to 100, the lowest layer first.
    ``poly`` has corners and ``blob`` is round. ``line3`` is a stroke 3 wide, ``line2-5`` one that slides from 2 to 5;
    a point ``20,30>20,50`` slides as well. After the kind, ``|`` completes the outline by its mirror image (the axis is
    x = 50), and ``+`` draws its mirror image beside it.

    >>> parse_kinds("[House]\nwalls poly| 50,50 90,50 90,99 50,99")[0].poses[0][0].start[1].tolist()
    [0.8, 0.0]
    """
    kinds: list[Kind] = []
    for line in text.splitlines():
        if line.startswith("["):
            kinds.append(Kind(line.strip("[]"), {}, [[]]))
        elif not line:
            kinds[-1].poses.append([])
        elif match := re.match("([a-z]+): (.*)", line):
            kinds[-1].settings[match[1]] = match[2].split()
        else:
            kinds[-1].poses[-1].extend(_parse_layer(line))
    return [kind._replace(poses=[pose for pose in kind.poses if pose]) for kind in kinds]


def _parse_layer(line: str) -> list[Layer]:
    colour, kind, *points = line.split()
    name, _, shade = colour.partition("*")
    numbers = [re.split("[>,]", point) for point in points]
    start = np.array([point[:2] for point in numbers], float) / 50 - 1
    end = np.array([point[-2:] for point in numbers], float) / 50 - 1
    layer = Layer(name, float(shade or 1), _outline(kind, start, 0), _outline(kind, end, -1))
    if not kind.endswith("+"):
        return [layer]
    return [layer, layer._replace(start=layer.start * [-1, 1], end=layer.end * [-1, 1])]


def _outline(kind: str, points: Points, which_width: int) -> Points:
    if kind.startswith("line"):
        widths = kind.removeprefix("line").rstrip("+").split("-")
        return _stroke(points, float(widths[which_width]) / 100)
    if kind.endswith("|"):
        points = np.concatenate([points, points[::-1] * [-1, 1]])
    return _rounded(points, closed=True) if kind.startswith("blob") else points


def _rounded(points: Points, closed: bool) -> Points:
    """Cut every corner twice (Chaikin's algorithm), which comes near a smooth curve."""
    for _ in range(2):
        start, end = (points, np.roll(points, -1, axis=0)) if closed else (points[:-1], points[1:])
        cut = np.stack([start * 0.75 + end * 0.25, start * 0.25 + end * 0.75], axis=1).reshape(-1, 2)
        points = cut if closed else np.concatenate([points[:1], cut, points[-1:]])
    return points


def _stroke(points: Points, half_width: float) -> Points:
    """Return the outline of a band along the points, which reaches a little beyond its ends."""
    if len(points) > 2:
        points = _rounded(points, closed=False)
    along = np.concatenate([points[1:2] - points[:1], points[2:] - points[:-2], points[-1:] - points[-2:-1]])
    along *= half_width / np.sqrt(along[:, :1] * along[:, :1] + along[:, 1:] * along[:, 1:])
    across = along[:, ::-1] * [-1, 1]
    tips = np.concatenate([points[:1] - along[:1] * 0.7, points[1:-1], points[-1:] + along[-1:] * 0.7])
    return np.concatenate([tips + across, (tips - across)[::-1]])
