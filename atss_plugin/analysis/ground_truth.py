"""The boxes of a data set at the size at which the network sees them; no pixels are read for that.

Legend: G ground truths, I ignored regions of an image.
"""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

import mmcv
import numpy as np
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.structures import InstanceData

from ..datasets.coco import CocoDataset, check_image
from ..errors import UsageError
from .input_geometry import InputGeometry, pipeline_of


@dataclass
class GroundTruth:
    """The ground truth of one image.

    Attributes:
        name: the image's file name.
        ori_shape: (height, width) of the image in the data set.
        img_shape: (height, width) in which the network sees it.
        pad_shape: the same after padding.
        bboxes: (G, 4) xyxy in pixels of the input.
        labels: (G,) class indices.
        ignored: (I, 4) crowd regions, xyxy in pixels of the input.
        index: the image's place in the data set.
    """

    name: str
    ori_shape: Tuple[int, int]
    img_shape: Tuple[int, int]
    pad_shape: Tuple[int, int]
    bboxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    index: int

    def instances(self) -> InstanceData:
        """Return the boxes and labels in the form that assigners expect."""
        return InstanceData(bboxes=torch.from_numpy(self.bboxes), labels=torch.from_numpy(self.labels))

    def ignored_instances(self) -> InstanceData:
        """Return the crowd regions in the form that assigners expect."""
        return InstanceData(bboxes=torch.from_numpy(self.ignored))


def build_dataset(cfg: Config, ann_file: Optional[str] = None, images: str = '') -> BaseDataset:
    """Return the data set to look at, without its pipeline.

    Args:
        cfg: its training data set is used (wrappers such as RepeatDataset are opened). mmdet's ``CocoDataset`` is
            read by ours, which says what is wrong with a file.
        ann_file: a COCO json, with any classes, to use instead.
        images: folder of that file's images.

    Raises:
        FileNotFoundError: there is no such annotation file.
        UsageError: the config has no training data set or joins several, or the file cannot be used.
    """
    with contextlib.redirect_stdout(sys.stderr):  # pycocotools prints what it does
        if ann_file:
            if not Path(ann_file).is_file():
                raise FileNotFoundError(f'no annotation file {ann_file}')
            prefix, all_classes = dict(img=images), dict(classes=())
            return CocoDataset(ann_file=ann_file, data_prefix=prefix, pipeline=[], metainfo=all_classes)
        dataset = cfg.get('train_dataloader', {}).get('dataset')
        if dataset is None:
            raise UsageError('the config has no train_dataloader: give the boxes to look at as a COCO json by --ann')
        while 'dataset' in dataset:
            dataset = dataset['dataset']
        if 'datasets' in dataset:
            raise UsageError('the config joins several data sets: give the one to look at as a COCO json by --ann')
        if dataset['type'] in ('CocoDataset', 'mmdet.CocoDataset'):
            dataset = {**dataset, 'type': 'atss_plugin.CocoDataset'}
        return DATASETS.build({**dataset, 'pipeline': []})


def read_ground_truth(dataset: BaseDataset, index: int, geometry: InputGeometry) -> GroundTruth:
    """Return the ground truth of one image of a data set."""
    info = dataset.get_data_info(index)
    height, width = info['height'], info['width']
    instances = info['instances']
    boxes = np.array([i['bbox'] for i in instances], dtype=np.float32).reshape(-1, 4)
    boxes = geometry.scale_boxes(boxes, height, width)
    ignored = np.array([bool(i['ignore_flag']) for i in instances], dtype=bool)
    labels = np.array([i['bbox_label'] for i in instances], dtype=np.int64)
    img_shape = geometry.input_shape(height, width)
    return GroundTruth(
        name=info['img_path'].rsplit('/', 1)[-1],
        ori_shape=(height, width),
        img_shape=img_shape,
        pad_shape=geometry.pad_shape(*img_shape),
        bboxes=boxes[~ignored],
        labels=labels[~ignored],
        ignored=boxes[ignored],
        index=index,
    )


def find_image(dataset: BaseDataset, name: str) -> int:
    """Return the index of the image that has that file name.

    Raises:
        UsageError: the data set has no such image.
    """
    wanted = Path(name).name
    for index in range(len(dataset)):
        if Path(dataset.get_data_info(index)['img_path']).name == wanted:
            return index
    raise UsageError(f'the annotations have no image {wanted!r}; --index takes 0 to {len(dataset) - 1}')


def read_image(
    cfg: Config, dataset: BaseDataset, truth: GroundTruth, file: Optional[str] = None, may_miss: bool = True
) -> np.ndarray:
    """Return the pixels of an image in the size of the network's input, (h, w, 3) uint8 RGB.

    Args:
        cfg: its training pipeline's first transforms load the image.
        dataset: the data set.
        truth: the image.
        file: a file to read instead.
        may_miss: return a white image where the file does not exist, since boxes alone tell where positives are.

    Raises:
        FileNotFoundError: the file does not exist, and may not be missing.
        UsageError: the file is not an image.
    """
    height, width = truth.img_shape
    info = dict(dataset.get_data_info(truth.index))
    if file is not None:
        info['img_path'] = file
    try:
        for transform in pipeline_of(cfg.train_dataloader.dataset):
            info = TRANSFORMS.build(transform)(info)
            if 'img' in info:
                break
    except FileNotFoundError:
        if not may_miss:
            raise
        return np.full((height, width, 3), 255, dtype=np.uint8)
    except Exception:
        check_image(info['img_path'])
        raise
    return mmcv.bgr2rgb(mmcv.imresize(info['img'].astype(np.uint8), (width, height)))
