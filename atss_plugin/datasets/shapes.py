"""A detection data set that needs no files: scenes of shapes, painted when they are looked at."""

import re
from functools import lru_cache
from typing import List, Tuple

import cv2
from mmdet.datasets import BaseDetDataset
from mmengine.fileio import BaseStorageBackend, register_backend

from atss_plugin.registry import DATASETS

from .scene import CLASSES, compose, paint

_URL = 'shapes://{height}x{width}/{seed}/{index:06d}.png'
_URL_PATTERN = re.compile(r'shapes://(\d+)x(\d+)/(\d+)/(\d+)\.png')
MIN_SIDE = 192  # pixels; below, the cut objects would no longer be distributed as COCO's


@register_backend('shapes', prefixes='shapes', force=True)
class ShapesBackend(BaseStorageBackend):
    """mmengine's way to read a file, for ``shapes://HEIGHTxWIDTH/SEED/INDEX.png``.

    With it the pictures of ``ShapesDataset`` have paths, so that whatever reads an image from its path works on
    them: ``LoadImageFromFile``, the visualisation hook (``mim test ... --show-dir``), mmdet's browsing tools.
    """

    def get(self, filepath: str) -> bytes:
        """Return the picture as a PNG file.

        Raises:
            FileNotFoundError: the path has not the form above.
        """
        match = _URL_PATTERN.fullmatch(str(filepath))
        if match is None:
            raise FileNotFoundError(f'{filepath} is no path of ShapesDataset, which has the form {_URL}')
        height, width, seed, index = map(int, match.groups())
        return _picture(seed, index, height, width)

    def get_text(self, filepath: str) -> str:
        """Return the same bytes as text, one character a byte."""
        return self.get(filepath).decode('latin-1')


@lru_cache(maxsize=2048)  # about 25 KB each
def _picture(seed: int, index: int, height: int, width: int) -> bytes:
    return cv2.imencode('.png', paint(compose(seed, index, height, width)))[1].tobytes()


@DATASETS.register_module()
class ShapesDataset(BaseDetDataset):
    """Embedded data set: ellipses, rectangles, triangles and crosses in clutter, with boxes distributed as COCO's.

    Number, size, aspect ratio and how much objects lie in one another follow ``coco_boxes.py``; sizes are those that
    COCO's objects have in its original pixels, so COCO's evaluation sees as many small, medium and large ones.

    Nothing is read from or written to a disk. The picture and the boxes of an index depend on ``seed``,
    ``img_shape`` and the index alone: the first images of a larger set are those of a smaller one, and every process,
    machine and version of NumPy gets the same bytes.

    Args:
        num_images: how many scenes.
        seed: which stream of scenes; the sets of two seeds share no image.
        img_shape: height and width in pixels. The images are smaller than COCO's, their objects are not: what is
            larger than the image is cut to it.
        kwargs: as for mmdet's ``BaseDetDataset``: ``pipeline``, ``test_mode``, ``metainfo``, ``indices`` ...

    Raises:
        ValueError: no image, a negative seed, or images too small to show an object.
    """

    METAINFO = dict(classes=CLASSES, palette=[(220, 20, 60), (0, 130, 200), (60, 180, 75), (245, 130, 48)])

    def __init__(self, num_images: int, seed: int = 0, img_shape: Tuple[int, int] = (288, 384), **kwargs) -> None:
        if num_images < 1:
            raise ValueError(f'num_images must be at least 1, got {num_images}')
        if seed < 0:
            raise ValueError(f'seed must not be negative, got {seed}')
        if min(img_shape) < MIN_SIDE:
            raise ValueError(f'img_shape must be at least {MIN_SIDE} x {MIN_SIDE} pixels, got {tuple(img_shape)}')
        self.num_images = num_images
        self.seed = seed
        self.img_shape = tuple(img_shape)
        super().__init__(**kwargs)

    def load_data_list(self) -> List[dict]:
        """Return the boxes of all scenes, in mmdet's form; pictures are painted when the pipeline asks for them."""
        return [self._data_info(index) for index in range(self.num_images)]

    def _data_info(self, index: int) -> dict:
        height, width = self.img_shape
        scene = compose(self.seed, index, height, width)
        return dict(
            img_id=index,
            img_path=_URL.format(height=height, width=width, seed=self.seed, index=index),
            height=height,
            width=width,
            instances=[
                dict(bbox=[float(side) for side in shape.box], bbox_label=shape.label, ignore_flag=0)
                for shape in scene.shapes
            ],
        )
