"""Scenes of plain shapes whose boxes are distributed as COCO's, the same to the last bit on every machine.

H, W image height and width in pixels; G objects placed so far; P places tried for an object; h, w height and width
of an object.

Everything is integer arithmetic on numbers from ``numpy.random.RandomState``, whose stream NumPy keeps
unchanged for ever (NEP 19). No drawing library, no anti-aliasing, no function that rounds differently elsewhere.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Optional, Sequence, Tuple

import numpy as np

from .coco_boxes import ASPECT, INSIDE, NUMBER, PERCENT, SIZE

CLASSES = ('ellipse', 'rectangle', 'triangle', 'cross')
Colour = Tuple[int, int, int]  # blue, green, red, as OpenCV has them

# Most of COCO's images have a shorter side of 480 pixels, and 800 in the input of the paper's experiments: sizes in an
# image are those that COCO has in its original pixels.
SHORTER_SIDE, INPUT_SIDE = 480, 800
MIN_SIDE = 4  # pixels of an object
MAX_COVERED = 50  # percent of a box that the boxes in front of it may take together
PLACES = 16  # tried for an object, to find one as crowded as it should be
GROUND = (32, 112)  # the background is dark
GREENS = (48, 104, 160, 216)  # of the classes
SHADE, CHECK = 96, 20  # how much an object's colour changes from its middle to its sides, and on its checks
CHECKS = 8  # across an object and down
PATCH = 8  # pixels, the grain of the background


@dataclass(frozen=True)
class Shape:
    """One object: an index into CLASSES, the box (x1, y1, x2, y2) that its pixels fill exactly, and its colour."""

    label: int
    box: Tuple[int, ...]
    colour: Colour


@dataclass(frozen=True)
class Scene:
    """What a picture shows: ``shapes`` in the order in which they are painted, the largest first."""

    shape: Tuple[int, int]  # H, W
    background: Colour
    shapes: Tuple[Shape, ...]
    seeds: Tuple[int, int]  # of the stream, and of the scene within it


def compose(seed: int, index: int, height: int, width: int) -> Scene:
    """Choose the objects of scene ``index`` of the stream ``seed``.

    Number, sizes, aspect ratios and crowdedness are drawn from COCO's quantiles, sizes in pixels as they are in the
    input of the paper's experiments whatever the image's size, which cuts what is larger. The smaller lies in front of
    the larger; an object that would hide another is left out.
    """
    random = np.random.RandomState([seed, index, 0])
    background = tuple(random.randint(*GROUND, 3).tolist())
    number = _draw(random, NUMBER)
    sides = sorted((_draw_sides(random, number, height, width) for _ in range(number)), key=lambda s: -s[0] * s[1])
    boxes = np.zeros((0, 4), dtype=np.int64)
    covered = np.zeros(0, dtype=np.int64)
    for h, w in sides:
        target = _draw(random, _group(INSIDE, isqrt(h * w) * INPUT_SIDE // SHORTER_SIDE))
        place = _place(random, (height - h + 1, width - w + 1), (h, w), boxes, covered, target)
        if place is not None:
            box, overlaps = place
            covered = np.append(covered + overlaps, 0)
            boxes = np.concatenate([boxes, box[None]])
    labels = random.randint(len(CLASSES), size=len(boxes)).tolist()
    shapes = tuple(Shape(label, tuple(box), _colour(random, label)) for label, box in zip(labels, boxes.tolist()))
    return Scene((height, width), background, shapes, (seed, index))


def paint(scene: Scene) -> np.ndarray:
    """Return the picture of a scene, (H, W, 3) uint8 in BGR: a patchy background and bars, the objects, and bars over
    them."""
    random = np.random.RandomState([*scene.seeds, 1])
    height, width = scene.shape
    rows, columns = -(-height // PATCH), -(-width // PATCH)
    patches = np.array(scene.background) + random.randint(-20, 21, (rows, columns, 3))
    image = patches.astype(np.uint8).repeat(PATCH, 0).repeat(PATCH, 1)[:height, :width].copy()
    _paint_bars(image, random, random.randint(4, 16))
    for shape in scene.shapes:
        x1, y1, x2, y2 = shape.box
        mask = silhouette(CLASSES[shape.label], y2 - y1, x2 - x1)
        image[y1:y2, x1:x2][mask] = surface(shape, y2 - y1, x2 - x1)[mask]
    _paint_bars(image, random, random.randint(1, 5))
    return image


def surface(shape: Shape, height: int, width: int) -> np.ndarray:
    """Return the colours (h, w, 3) of an object, of which each part tells what it belongs to and where, as parts of
    natural objects do.

    Blue grows from left to right, red from top to bottom; green is the class's, with checks as large as the object.
    """
    x, y = np.arange(width), np.arange(height)[:, None]
    checks = (CHECKS * x // width + CHECKS * y // height) % 2
    colours = np.empty((height, width, 3), dtype=np.int64)
    colours[..., 0] = shape.colour[0] + SHADE * (2 * x + 1 - width) // width
    colours[..., 1] = shape.colour[1] + CHECK * (2 * checks - 1)
    colours[..., 2] = shape.colour[2] + SHADE * (2 * y + 1 - height) // height
    return colours.astype(np.uint8)


def silhouette(name: str, height: int, width: int) -> np.ndarray:
    """Return the pixels (h, w) of a shape that touches all four sides of its box, bool.

    ``x`` and ``y`` run through the pixel centres in units of half a pixel, from the middle of the box.
    """
    y, x = np.ogrid[1 - height : height : 2, 1 - width : width : 2]
    if name == 'ellipse':
        axes = (abs(x) < 2) | (abs(y) < 2)  # they touch the sides where the ellipse is too flat for a pixel's centre
        return axes | ((x * height) ** 2 + (y * width) ** 2 <= (height * width) ** 2)
    if name == 'triangle':  # apex up, at least a pixel wide
        return abs(x) * height * 2 <= np.maximum((y + height + 1) * width, 2 * height)
    if name == 'cross':
        return (abs(x) * 3 <= width) | (abs(y) * 3 <= height)
    return np.ones((height, width), dtype=bool)


def _colour(random: np.random.RandomState, label: int) -> Colour:
    blue, green, red = random.randint(-16, 17, 3).tolist()
    return 128 + blue, GREENS[label] + green // 2, 128 + red


def _group(table: dict, value: int) -> Sequence[int]:
    """Return the quantiles of the group with the highest lower end that is not above ``value``."""
    return table[max(low for low in table if low <= value)]


def _draw(random: np.random.RandomState, quantiles: Sequence[int]) -> int:
    """Return a number of the distribution with these quantiles, linear in between."""
    share = random.randint(100 * 100)  # of a hundredth of a percent
    step = next(i for i in range(1, len(PERCENT)) if share < 100 * PERCENT[i])
    low, high = quantiles[step - 1], quantiles[step]
    start, end = 100 * PERCENT[step - 1], 100 * PERCENT[step]
    return low + (high - low) * (share - start) // (end - start)


def _draw_sides(random: np.random.RandomState, number: int, height: int, width: int) -> Tuple[int, int]:
    """Return height and width of an object of an image with so many, cut to the image."""
    size = _draw(random, _group(SIZE, number))
    aspect = _draw(random, _group(ASPECT, size))
    area = size * size * SHORTER_SIDE**2 // INPUT_SIDE**2
    h, w = isqrt(area * 100 // aspect), isqrt(area * aspect // 100)
    return min(max(h, MIN_SIDE), height), min(max(w, MIN_SIDE), width)


def _place(
    random: np.random.RandomState,
    room: Tuple[int, int],
    sides: Tuple[int, int],
    boxes: np.ndarray,
    covered: np.ndarray,
    target: int,
) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Return the box (4,) of an object and its overlaps (G,) with those behind it; None if it would hide one.

    Args:
        random: the source of the P places that are tried.
        room: the number of rows and columns where its corner may lie.
        sides: h, w.
        boxes: (G, 4) of the objects behind it.
        covered: (G,) pixels of them that are covered already.
        target: the percentage of it that should lie inside one of them.
    """
    corners = np.stack([random.randint(room[1], size=PLACES), random.randint(room[0], size=PLACES)], axis=1)
    places = np.concatenate([corners, corners + sides[::-1]], axis=1)  # (P, 4)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sides_of_overlap = np.minimum(places[:, None, 2:], boxes[:, 2:]) - np.maximum(places[:, None, :2], boxes[:, :2])
    overlaps = sides_of_overlap.clip(min=0).prod(-1)  # (P, G)
    inside = (100 * overlaps // (sides[0] * sides[1])).max(1, initial=0)
    free = (100 * (covered + overlaps) <= MAX_COVERED * area).all(1)
    if not free.any():
        return None
    distance = np.where(free, abs(inside - target), 1000)
    best = distance.argmin()
    return places[best], overlaps[best]


def _paint_bars(image: np.ndarray, random: np.random.RandomState, count: int) -> None:
    """Clutter: upright and lying bars, too thin and too long for a rectangle."""
    height, width = image.shape[:2]
    unit = min(height, width)
    for _ in range(count):
        thick = 1 + random.randint(unit // 80)
        long = thick * random.randint(6, 40)
        h, w = (thick, long) if random.randint(2) else (long, thick)
        y, x = random.randint(height), random.randint(width)
        image[y : y + h, x : x + w] = random.randint(0, 256, 3)
