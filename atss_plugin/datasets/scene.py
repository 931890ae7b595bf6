"""Scenes of plain shapes, the same to the last bit on every machine.

H, W image height and width in pixels; G objects of a scene; h, w height and width of one of them.

Everything is integer arithmetic on numbers from ``numpy.random.RandomState``, whose stream NumPy keeps
unchanged for ever (NEP 19). No drawing library, no anti-aliasing, no function that rounds differently elsewhere.
"""

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

CLASSES = ('ellipse', 'rectangle', 'triangle', 'cross')
Colour = Tuple[int, int, int]  # blue, green, red, as OpenCV has them

# Sides of the square that has an object's area, in an image whose shorter side is 480 pixels, as most of COCO's are:
# small, medium and large to COCO's evaluation (areas up to 32^2, up to 96^2, above).
REFERENCE_SIDE = 480
SIDES = ((20, 32), (32, 96), (96, 300))
SHARES = (25, 40, 35)  # percent of the objects drawn of each size

MIN_CONTRAST = 150  # to the background, sum of the differences of the three channels
PATCH = 8  # pixels, the grain of the background


@dataclass(frozen=True)
class Shape:
    """One object: an index into CLASSES, the box (x1, y1, x2, y2) that its pixels fill exactly, and its colour."""

    label: int
    box: Tuple[int, int, int, int]
    colour: Colour

    @property
    def area(self) -> int:
        """Of the box, in pixels."""
        x1, y1, x2, y2 = self.box
        return (x2 - x1) * (y2 - y1)


@dataclass(frozen=True)
class Scene:
    """What a picture shows: ``shapes`` in the order in which they are painted, the largest first."""

    shape: Tuple[int, int]  # H, W
    background: Colour
    shapes: Tuple[Shape, ...]
    seeds: Tuple[int, int]  # of the stream, and of the scene within it


def compose(seed: int, index: int, height: int, width: int) -> Scene:
    """Choose the objects of scene ``index`` of the stream ``seed``, 3 to 11 less those that would hide another.

    Their sizes follow the image's shorter side. They may overlap and contain each other, not stick out.
    """
    random = np.random.RandomState([seed, index, 0])
    background = _colour(random)
    shapes: List[Shape] = []
    for _ in range(random.randint(3, 12)):
        shape = Shape(
            label=random.randint(len(CLASSES)),
            box=_place(random, height, width),
            colour=_colour(random, apart_from=background),
        )
        if not any(_hidden(*sorted((shape, other), key=lambda s: s.area)) for other in shapes):
            shapes.append(shape)
    shapes.sort(key=lambda s: -s.area)
    return Scene((height, width), background, tuple(shapes), (seed, index))


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
        image[y1:y2, x1:x2][silhouette(CLASSES[shape.label], y2 - y1, x2 - x1)] = shape.colour
    _paint_bars(image, random, random.randint(1, 5))
    return image


def silhouette(name: str, height: int, width: int) -> np.ndarray:
    """Return the pixels (h, w) of a shape that touches all four sides of its box, bool.

    ``x`` and ``y`` run through the pixel centres in units of half a pixel, from the middle of the box.
    """
    y, x = np.ogrid[1 - height : height : 2, 1 - width : width : 2]
    if name == 'ellipse':
        return (x * height) ** 2 + (y * width) ** 2 <= (height * width) ** 2
    if name == 'triangle':  # apex up, at least a pixel wide
        return abs(x) * height * 2 <= np.maximum((y + height + 1) * width, 2 * height)
    if name == 'cross':
        return (abs(x) * 3 <= width) | (abs(y) * 3 <= height)
    return np.ones((height, width), dtype=bool)


def _colour(random: np.random.RandomState, apart_from: Colour = None) -> Colour:
    while True:
        colour = tuple(random.randint(32, 224, 3).tolist())
        if apart_from is None or sum(abs(a - b) for a, b in zip(colour, apart_from)) >= MIN_CONTRAST:
            return colour


def _place(random: np.random.RandomState, height: int, width: int) -> Tuple[int, int, int, int]:
    """Return a box of one of the three sizes anywhere in the image; height / width from 0.44 to 2.25."""
    size = int(np.searchsorted(np.cumsum(SHARES), random.randint(100), side='right'))
    side = random.randint(*SIDES[size]) * min(height, width) // REFERENCE_SIDE
    sixths = random.randint(4, 10)
    w, h = side * sixths // 6, side * 6 // sixths
    x1, y1 = random.randint(width - w + 1), random.randint(height - h + 1)
    return x1, y1, x1 + w, y1 + h


def _hidden(small: Shape, large: Shape) -> bool:
    """Whether ``small``, painted later, covers more than 2/5 of the box of ``large``."""
    w = min(small.box[2], large.box[2]) - max(small.box[0], large.box[0])
    h = min(small.box[3], large.box[3]) - max(small.box[1], large.box[1])
    return 5 * max(w, 0) * max(h, 0) > 2 * large.area


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
