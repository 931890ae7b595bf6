"""SoftVotingTTA: multi-scale testing as in Table 8."""

from typing import List, Optional, Sequence, Tuple

import torch
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from atss_plugin.registry import MODELS

from .soft_voting import soft_voting, within_size_range

Scale = Tuple[int, int]
SizeRange = Optional[Tuple[float, float]]


@MODELS.register_module()
class SoftVotingTTA(DetTTAModel):
    """Detect in views of several scales, keep of each the sizes it is good at, and merge by soft voting.

    The wrapped model detects in each view as it does alone: NMS and ``max_per_img`` of its own ``test_cfg``
    apply to a view before the views are merged.

    Args:
        size_ranges: One entry per scale: the ``scale`` of the pipeline's ``Resize``, and the smallest and largest
            sqrt(area) that are kept of its detections, in pixels of the image as resized to that scale, bounds
            excluded; None keeps all.
        iou_thr: See ``soft_voting``.
        score_thr: See ``soft_voting``.
        max_per_img: How many merged detections an image has at most.
        kwargs: ``module`` and ``data_preprocessor`` of mmengine's ``BaseTTAModel``.

    Raises:
        ValueError: ``size_ranges`` is empty, names a scale twice, or has an entry that is not a scale and a
            range; or a view's scale is not among them.
    """

    def __init__(
        self,
        size_ranges: Sequence[Tuple[Scale, SizeRange]],
        iou_thr: float = 0.66,
        score_thr: float = 0.05,
        max_per_img: int = 1000,
        **kwargs,
    ) -> None:
        # Before the model is built: a wrong list should not cost the building of a big model.
        parsed_size_ranges = _parse_size_ranges(size_ranges)
        super().__init__(**kwargs)
        self.size_ranges = parsed_size_ranges
        self.iou_thr = iou_thr
        self.score_thr = score_thr
        self.max_per_img = max_per_img

    def _merge_single_sample(self, data_samples: List[DetDataSample]) -> DetDataSample:
        """Merge the views of one image.

        Args:
            data_samples: One per view, with ``pred_instances`` (boxes in pixels of the original size, still
                flipped) and, in their metainfo, ``scale``, ``scale_factor``, ``flip``, ``flip_direction`` and
                ``ori_shape``.

        Returns:
            The first of them with the merged ``pred_instances``.
        """
        predictions = [sample.pred_instances for sample in data_samples]
        boxes, scores = self.merge_aug_bboxes(
            [prediction.bboxes for prediction in predictions],
            [prediction.scores for prediction in predictions],
            [sample.metainfo for sample in data_samples],
        )
        labels = torch.cat([prediction.labels for prediction in predictions])
        keep = torch.cat([self._keep(sample) for sample in data_samples])
        boxes, scores, labels = soft_voting(
            boxes[keep], scores[keep], labels[keep], self.iou_thr, self.score_thr, self.max_per_img
        )
        merged = data_samples[0]
        merged.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels)
        return merged

    def _keep(self, sample: DetDataSample) -> Tensor:
        """Return which detections of a view (D, 4) are kept: (D, ), bool."""
        for key in ('scale', 'scale_factor'):
            if key not in sample.metainfo:
                raise ValueError(
                    f'a view does not say its {key}: add {key!r} to the meta_keys of PackDetInputs in tta_pipeline'
                )
        return within_size_range(sample.pred_instances.bboxes, self._size_range(sample), sample.scale_factor)

    def _size_range(self, sample: DetDataSample) -> SizeRange:
        scale = tuple(sample.metainfo['scale'])
        if scale not in self.size_ranges:
            raise ValueError(
                f'tta_pipeline has the scale {scale}, tta_model.size_ranges only '
                f'{list(self.size_ranges)}: give it a range (or None)'
            )
        return self.size_ranges[scale]


def _parse_size_ranges(size_ranges: Sequence) -> dict:
    if not size_ranges:
        raise ValueError(
            'size_ranges is empty: multi-scale testing needs at least one scale, such as ((1333, 800), None)'
        )
    parsed = {}
    for entry in size_ranges:
        if len(entry) != 2 or len(entry[0]) != 2:
            raise ValueError(
                f'size_ranges has {entry}; an entry is a scale and a range, such as '
                '((1333, 400), (96, 10000)), or a scale and None'
            )
        scale, size_range = tuple(entry[0]), entry[1]
        if size_range is not None and not (len(size_range) == 2 and 0 <= size_range[0] < size_range[1]):
            raise ValueError(f'the range {size_range} of the scale {scale} is not (smallest, largest) sqrt(area)')
        if scale in parsed:
            raise ValueError(f'size_ranges has the scale {scale} twice')
        parsed[scale] = size_range
    return parsed
