"""On a GPU the core gives what it gives on the CPU, and makes the host wait for nothing.  Torch alone is needed."""

import math

import pytest
import torch
from torch.testing import assert_close

from atss_plugin import matching
from tests.conftest import waiting

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
STRIDES, CLASSES = (8, 16, 32, 64, 128), 80
DEFINITIONS = {
    'atss': lambda pyramid, gts, predictions: matching.atss(pyramid, gts),
    'atss_min_positives': lambda pyramid, gts, predictions: matching.atss(pyramid, gts, min_positives=4),
    'spatial_scale': lambda pyramid, gts, predictions: matching.spatial_scale(pyramid, gts),
    'center_sampling': lambda pyramid, gts, predictions: matching.center_sampling(pyramid, gts),
    'center_region': lambda pyramid, gts, predictions: matching.center_region(pyramid, gts),
    'max_iou': lambda pyramid, gts, predictions: matching.max_iou(pyramid.priors, gts),
    'topk_iou': lambda pyramid, gts, predictions: matching.topk_iou(pyramid.priors, gts),
    'rfla': lambda pyramid, gts, predictions: matching.rfla(pyramid, gts),
    'simota': matching.simota,
    'task_aligned': matching.task_aligned,
    'paa': matching.paa,
}


def anchors_of(height: int, width: int) -> torch.Tensor:
    """Squares of 8 strides on all five levels."""
    levels = []
    for stride in STRIDES:
        ys, xs = (torch.arange(math.ceil(size / stride)) * stride + stride / 2 for size in (height, width))
        points = torch.stack([xs.repeat(len(ys)), ys.repeat_interleave(len(xs))], 1)
        levels.append(torch.cat([points - 4 * stride, points + 4 * stride], 1))
    return torch.cat(levels)


def boxes_in(height: int, width: int, counts) -> list:
    """Boxes of every size, log-uniform from 6 to 600 pixels."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for count in counts:
        sides = torch.exp(math.log(6) + torch.rand(count, 2, generator=generator) * math.log(100))
        centers = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
        images.append(torch.cat([centers - sides / 2, centers + sides / 2], 1))
    return images


@pytest.fixture(scope='module')
def scene():
    """Anchors of 800 x 1344 pixels, boxes of four images (one without, one with a box that is NaN), predictions."""
    anchors = anchors_of(800, 1344)
    boxes = boxes_in(800, 1344, (7, 0, 60, 12))
    boxes[3][5] = float('nan')
    labels = [torch.arange(len(box)) % CLASSES for box in boxes]
    generator = torch.Generator().manual_seed(1)
    moved = anchors + 8 * torch.randn(len(boxes), len(anchors), 4, generator=generator)
    scores = torch.rand(len(boxes), len(anchors), CLASSES, generator=generator) ** 4
    return anchors, boxes, labels, matching.Predictions(moved, scores)


def collected(scene, device: str):
    """A scene on a device, as the definitions take it."""
    anchors, boxes, labels, predictions = scene
    pyramid = matching.find_pyramid(anchors.to(device))
    gts = matching.collect([b.to(device) for b in boxes], [i.to(device) for i in labels], pyramid.priors)
    return pyramid, gts, matching.Predictions(*(tensor.to(device) for tensor in predictions))


@pytest.mark.parametrize('name', DEFINITIONS)
def test_the_same_as_on_the_cpu(name, scene):
    on_cpu, on_gpu = (DEFINITIONS[name](*collected(scene, device)) for device in ('cpu', 'cuda'))
    assert on_gpu.gt_inds.is_cuda and (on_cpu.gt_inds > 0).any()
    for field in ('gt_inds', 'labels'):
        assert_close(getattr(on_gpu, field).cpu(), getattr(on_cpu, field), rtol=0, atol=0)


@pytest.mark.parametrize('name', DEFINITIONS)
def test_the_host_never_waits(name, scene):
    """From the second image of a size on; torch raises an error at whatever would wait."""
    pyramid, gts, predictions = collected(scene, 'cuda')
    DEFINITIONS[name](pyramid, gts, predictions)  # a kernel's first launch may wait for its code
    boxes, labels = ([tensor.cuda() for tensor in tensors] for tensors in scene[1:3])
    torch.cuda.synchronize()
    with waiting('error'):
        DEFINITIONS[name](pyramid, matching.collect(boxes, labels, pyramid.priors), predictions)


def test_waiting_would_be_an_error():
    with waiting('error'), pytest.raises(RuntimeError, match='synchroniz'):
        torch.ones(2, device='cuda').sum().item()
