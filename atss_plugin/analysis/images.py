"""The images of a data set as the network sees them: whole and resized, or as training makes them.

Legend: G ground truths of an image.
"""

import copy
import random
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import Optional, Tuple

import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.structures import InstanceData

from atss_plugin.errors import UsageError

from .ground_truth import GroundTruth, build_dataset, find_image, read_ground_truth, read_image
from .input_geometry import input_geometry


class Images(ABC):
    """Images with their ground truths.

    Args:
        cfg: its training data set is used.
        ann_file: a COCO json, with any classes, to use instead.
        folder: where that file's images are.

    Attributes:
        file: if set, a file to read in place of every image.

    Raises:
        ValueError, FileNotFoundError: as :func:`build_dataset`.
    """

    file: Optional[str] = None

    def __init__(self, cfg: Config, ann_file: Optional[str] = None, folder: str = '') -> None:
        self.cfg = cfg
        self.geometry = input_geometry(cfg)
        self.dataset = build_dataset(cfg, ann_file, folder)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the classes."""
        return self.dataset.metainfo['classes']

    def find(self, name: str) -> int:
        """Return the number of the image that has that file name; raise a ValueError if there is none."""
        return find_image(self.dataset, name)

    def truth(self, index: int) -> GroundTruth:
        """Return the ground truth of image ``index``; raise a ValueError if there is no such image."""
        if not 0 <= index < len(self):
            raise UsageError(f'--index {index}: the data set has the images 0 to {len(self) - 1}')
        return self._truth(index)

    @abstractmethod
    def _truth(self, index: int) -> GroundTruth:
        """Return the ground truth of an image that exists."""

    @abstractmethod
    def pixels(self, truth: GroundTruth, may_miss: bool = True) -> np.ndarray:
        """Return the image (h, w, 3) as uint8 RGB.

        Args:
            truth: the image.
            may_miss: an image whose file does not exist may be white.
        """


class ResizedImages(Images):
    """Whole images at the size of the network's input; crops and mosaics are not followed."""

    def _truth(self, index: int) -> GroundTruth:
        return read_ground_truth(self.dataset, index, self.geometry)

    def pixels(self, truth: GroundTruth, may_miss: bool = True) -> np.ndarray:
        return read_image(self.cfg, self.dataset, truth, self.file, may_miss)


class ValidationImages(ResizedImages):
    """The images of the config's validation set, at the size at which training would see them."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.geometry = input_geometry(cfg)
        self.dataset = DATASETS.build(cfg.val_dataloader.dataset)


class TrainingImages(Images):
    """What the training pipeline makes of the images, with its random crops, flips and mosaics.

    Args:
        cfg, ann_file, folder: as for :class:`Images`.
        seed: the seed of what is drawn at random, which is the same for the same image and seed.
    """

    def __init__(self, cfg: Config, ann_file: Optional[str] = None, folder: str = '', seed: int = 0) -> None:
        self.cfg = cfg
        self.geometry = input_geometry(cfg)
        self.seed = seed
        dataset = copy.deepcopy(cfg.train_dataloader.dataset)
        if ann_file:
            inner = dataset
            while 'dataset' in inner:
                inner = inner['dataset']
            if 'pipeline' not in inner:
                raise UsageError('the config joins several data sets: with --ann give one that has a single pipeline')
            pipeline, classes = inner['pipeline'], build_dataset(cfg, ann_file).metainfo['classes']
            inner.clear()
            inner.update(type=CocoDataset, ann_file=ann_file, data_prefix=dict(img=folder))
            inner.update(pipeline=pipeline, metainfo=dict(classes=classes))
        self.dataset = DATASETS.build(dataset)

    def find(self, name: str) -> int:
        """Return the number of the image whose file has that name."""
        inner = self.dataset
        while hasattr(inner, 'dataset'):
            inner = inner.dataset
        return find_image(inner, name)

    def sample(self, index: int) -> dict:
        """Return what the pipeline packs: ``inputs`` (3, h, w) and ``data_samples``."""
        with seeded((self.seed * 1_000_003 + index) % 2**32):
            return self.dataset[index]

    def _truth(self, index: int) -> GroundTruth:
        sample = self.sample(index)
        return packed_ground_truth(sample, index, self.geometry.pad_shape(*sample['inputs'].shape[-2:]))

    def pixels(self, truth: GroundTruth, may_miss: bool = True) -> np.ndarray:
        inputs = self.sample(truth.index)['inputs']
        return inputs.clamp(0, 255).byte().permute(1, 2, 0).numpy()[..., ::-1]


def packed_ground_truth(sample: dict, index: int, pad_shape: Tuple[int, int]) -> GroundTruth:
    """Return the ground truth of an image that a training pipeline has packed.

    Args:
        sample: ``inputs`` (3, h, w), not yet padded, and ``data_samples``.
        index: the image's number.
        pad_shape: (height, width) after padding.
    """
    shape, packed = tuple(sample['inputs'].shape[-2:]), sample['data_samples']
    ignored = packed.get('ignored_instances')
    # the size of the objects before the pipeline, if the pipeline says by how much it scaled them
    factor = packed.metainfo.get('scale_factor', (1, 1))
    original = tuple(max(1, round(side / scale)) for side, scale in zip(shape, factor[::-1]))
    return GroundTruth(
        name=str(packed.metainfo.get('img_path', '')).rsplit('/', 1)[-1],
        ori_shape=original,
        img_shape=shape,
        pad_shape=pad_shape,
        bboxes=_boxes(packed.gt_instances),
        labels=packed.gt_instances.labels.cpu().numpy(),
        ignored=np.zeros((0, 4), np.float32) if ignored is None else _boxes(ignored),
        index=index,
    )


def _boxes(instances: InstanceData) -> np.ndarray:
    """Return the boxes (G, 4) as float32."""
    return get_box_tensor(instances.bboxes).cpu().float().numpy().reshape(-1, 4)


@contextmanager
def seeded(seed: int):
    """Seed all random numbers within this context, and restore their state after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
