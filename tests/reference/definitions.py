"""Every sample definition twice: our assigner, and the oracle's loops for the same settings."""

from functools import partial
from typing import Callable, NamedTuple

from mmdet.models.task_modules import BaseAssigner

from atss_plugin.assigners import (
    ATSSAssigner,
    CenterSamplingAssigner,
    IoUAssigner,
    SpatialScaleAssigner,
    TopKIoUAssigner,
)
from tests.reference import oracle
from tests.reference.scenes import Layout, scale_ranges


class Definition(NamedTuple):
    """assigner: what is tested; loops: what it is compared with, Scene -> Answer."""

    assigner: BaseAssigner
    loops: Callable


def _ranges(layout: Layout):
    return scale_ranges(len(layout.strides), first=8 * layout.strides[0][0])


def _spatial_scale(layout, iof_thr):
    ranges = _ranges(layout)
    return Definition(
        SpatialScaleAssigner(ranges, iof_thr), partial(oracle.spatial_scale, ranges=ranges, iof_thr=iof_thr)
    )


def _center_sampling(layout, iof_thr):
    ranges = _ranges(layout)
    return Definition(
        CenterSamplingAssigner(9, None, ranges, iof_thr),
        partial(oracle.center_sampling, ranges=ranges, topk=9, iof_thr=iof_thr),
    )


def _radius_sampling(layout, iof_thr):
    ranges, strides = _ranges(layout), [stride[0] for stride in layout.strides]
    return Definition(
        CenterSamplingAssigner(9, 1.5, ranges, iof_thr, strides),
        partial(
            oracle.radius_sampling, ranges=ranges, radius=1.5, strides=list(zip(strides, strides)), iof_thr=iof_thr
        ),
    )


MAKERS = {
    'atss': lambda layout, iof_thr: Definition(
        ATSSAssigner(ignore_iof_thr=iof_thr), partial(oracle.atss, iof_thr=iof_thr)
    ),
    'atss_k3': lambda layout, iof_thr: Definition(
        ATSSAssigner(topk=3, ignore_iof_thr=iof_thr), partial(oracle.atss, topk=3, iof_thr=iof_thr)
    ),
    'atss_k1': lambda layout, iof_thr: Definition(
        ATSSAssigner(topk=1, ignore_iof_thr=iof_thr), partial(oracle.atss, topk=1, iof_thr=iof_thr)
    ),
    'ssc': _spatial_scale,
    'center_sampling': _center_sampling,
    'radius_sampling': _radius_sampling,
    'iou': lambda layout, iof_thr: Definition(
        IoUAssigner(ignore_iof_thr=iof_thr), partial(oracle.iou_rule, iof_thr=iof_thr)
    ),
    'iou_in_gt_box': lambda layout, iof_thr: Definition(
        IoUAssigner(in_gt_box=True, ignore_iof_thr=iof_thr), partial(oracle.iou_rule, in_gt_box=True, iof_thr=iof_thr)
    ),
    'topk_iou': lambda layout, iof_thr: Definition(
        TopKIoUAssigner(ignore_iof_thr=iof_thr), partial(oracle.topk_iou, iof_thr=iof_thr)
    ),
}


def define(name: str, layout: Layout, iof_thr: float = -1) -> Definition:
    """The definition of this name for the levels of a layout (their scale ranges and strides)."""
    return MAKERS[name](layout, iof_thr)
