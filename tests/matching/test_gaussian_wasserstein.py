"""NWD: the distance between Gaussians by its general formula, and its place in assigners."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.task_modules import ATSSAssigner as MMDetATSSAssigner
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin.assigners import (
    ATSSAssigner,
    GaussianWasserstein,
    IoUAssigner,
    PAAAssigner,
    SimOTAAssigner,
    TaskAlignedAssigner,
    TopKIoUAssigner,
)
from atss_plugin.matching import gaussian_wasserstein
from tests.matching.test_pyramid import QUICK
from tests.reference.predictions import predict
from tests.reference.scenes import instances, make_layout, random_boxes

NWD = dict(type='atss_plugin.GaussianWasserstein')


def by_matrices(box, other, constant):
    """W2^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S2^1/2 S1 S2^1/2)^1/2), with eigenvalues for the roots."""
    moments = []
    for x1, y1, x2, y2 in (box, other):
        mean = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2], dtype=torch.float64)
        moments.append((mean, torch.diag(torch.tensor([(x2 - x1) ** 2 / 4, (y2 - y1) ** 2 / 4], dtype=torch.float64))))
    (mean1, cov1), (mean2, cov2) = moments

    def root(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T

    cross = root(root(cov2) @ cov1 @ root(cov2))
    squared = (mean1 - mean2).square().sum() + torch.trace(cov1 + cov2 - 2 * cross)
    return math.exp(-math.sqrt(max(float(squared), 0)) / constant)


@QUICK
@given(st.integers(0, 10**6), st.sampled_from([1.0, 12.8, 50.0]))
def test_is_the_distance_between_gaussians(seed, constant):
    boxes = random_boxes(6, seed=seed, dtype=torch.float64)
    found = GaussianWasserstein(constant)(boxes[:4], boxes[4:])
    for i in range(4):
        for j in range(2):
            expected = by_matrices(boxes[i].tolist(), boxes[4 + j].tolist(), constant)
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert_close(
        GaussianWasserstein(constant)(boxes[:4], boxes[2:], is_aligned=True),
        gaussian_wasserstein(boxes[:4], boxes[2:], constant),
    )


def test_in_numbers():
    """Boxes of 6 x 8 that are 3 and 4 pixels apart: exp(-5 / 12.8); without overlap it is not 0."""
    box = torch.tensor([[0.0, 0.0, 6.0, 8.0]])
    assert float(GaussianWasserstein()(box, box + torch.tensor([3.0, 4.0, 3.0, 4.0]))) == pytest.approx(
        math.exp(-5 / 12.8)
    )
    assert float(GaussianWasserstein()(box, box)) == 1
    assert float(GaussianWasserstein()(box, box + 100)) > 0
    assert float(GaussianWasserstein()(box, torch.tensor([[0.0, 0.0, 12.0, 8.0]]))) == pytest.approx(
        math.exp(-math.hypot(3, 3) / 12.8)
    )


@pytest.mark.parametrize('seed', range(4))
def test_atss_by_it_is_mmdets_by_it(seed):
    layout = make_layout(size=(192, 256))
    boxes = random_boxes(40, (192, 256), seed)
    gts = instances(boxes[(boxes[:, 2:] - boxes[:, :2]).amax(1) < 60][:12])
    given = InstanceData(priors=layout.priors)
    ours, theirs = ATSSAssigner(iou_calculator=NWD), MMDetATSSAssigner(topk=9, iou_calculator=NWD)
    found, expected = (a.assign(given, layout.num_level_priors, gts) for a in (ours, theirs))
    assert (found.gt_inds > 0).any()
    assert_close(found.gt_inds, expected.gt_inds, rtol=0, atol=0)


def test_a_calculator_that_compares_all_with_all_is_an_error():
    """mmdet's for GLIP does not know ``is_aligned``."""
    with pytest.raises(ValueError, match='iou_calculator: BboxOverlaps2D_GLIP compares all boxes with all'):
        ATSSAssigner(iou_calculator=dict(type='mmdet.BboxOverlaps2D_GLIP'))


@pytest.mark.parametrize(
    'make',
    [
        pytest.param(make, id=make.__name__)
        for make in (ATSSAssigner, IoUAssigner, PAAAssigner, SimOTAAssigner, TaskAlignedAssigner, TopKIoUAssigner)
    ],
)
def test_every_assigner_with_an_iou_calculator_asks_it(make):
    """Among small boxes and long ones, some positive differs."""
    layout, different = make_layout(), []
    for seed in range(8):
        gts = instances(random_boxes(8, seed=seed))
        predicted = predict(layout, gts, seed, spread=20.0)
        by_iou, by_nwd = (
            make(**options).assign_batch(layout.priors, layout.num_level_priors, [gts], None, [predicted])
            for options in (dict(), dict(iou_calculator=dict(NWD, constant=40.0)))
        )
        different.append(not torch.equal(by_iou.gt_inds, by_nwd.gt_inds))
    assert sum(different) >= 4


def test_bad_input():
    boxes = random_boxes(2)
    with pytest.raises(ValueError, match="no mode 'iof'"):
        GaussianWasserstein()(boxes, boxes, mode='iof')
    with pytest.raises(ValueError, match='constant must be positive'):
        TASK_UTILS.build(dict(NWD, constant=0))
