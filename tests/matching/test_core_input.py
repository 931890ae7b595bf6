"""What the core makes of input that an assigner would have checked or converted."""

import pytest
import torch

from atss_plugin.matching import (
    Predictions,
    atss,
    center_region,
    center_sampling,
    collect,
    find_pyramid,
    max_iou,
    paa,
    rfla,
    simota,
    spatial_scale,
    task_aligned,
    topk_iou,
)
from tests.reference.scenes import make_layout

PRIORS = make_layout(size=(256, 256)).priors


def predictions(num_images, num_priors=len(PRIORS)):
    generator = torch.Generator().manual_seed(0)
    boxes = PRIORS[:num_priors] + 4 * torch.randn(num_images, num_priors, 4, generator=generator)
    return Predictions(boxes, torch.rand(num_images, num_priors, 3, generator=generator))


DEFINITIONS = {
    'atss': atss,
    'spatial_scale': spatial_scale,
    'center_sampling': center_sampling,
    'center_region': center_region,
    'max_iou': lambda pyramid, gts: max_iou(pyramid.priors, gts),
    'topk_iou': lambda pyramid, gts: topk_iou(pyramid.priors, gts),
    'rfla': rfla,
    'simota': lambda pyramid, gts: simota(pyramid, gts, predictions(len(gts.counts))),
    'task_aligned': lambda pyramid, gts: task_aligned(pyramid, gts, predictions(len(gts.counts))),
    'paa': lambda pyramid, gts: paa(pyramid, gts, predictions(len(gts.counts))),
}
BOX = [30.0, 40.0, 110.0, 125.0]


def run(name, *boxes, priors=PRIORS, pyramid=None):
    """The assignment of images with these boxes, all of class 0."""
    boxes = [torch.as_tensor(box).reshape(-1, 4) for box in boxes]
    gts = collect(boxes, [torch.zeros(len(box)).long() for box in boxes], priors)
    return DEFINITIONS[name](pyramid or find_pyramid(priors), gts).gt_inds


@pytest.mark.parametrize('name', DEFINITIONS)
@pytest.mark.parametrize('num_images', [1, 3])
def test_without_objects_all_is_background(name, num_images):
    found = run(name, *[[]] * num_images)
    assert found.shape == (num_images, len(PRIORS)) and not found.any()


@pytest.mark.parametrize('name', DEFINITIONS)
def test_a_bad_box_takes_nothing_from_others(name):
    expected = run(name, BOX)
    assert (expected > 0).any()
    for bad in (
        [float('nan'), 0.0, 50.0, 50.0],
        [0.0, 0.0, float('inf'), 50.0],
        [-1e16, -1e16, 2e16, 1e16],
        [-1e20, -1e20, 1e20, 1e20],
        [110.0, 125.0, 30.0, 40.0],
    ):
        assert run(name, [BOX, bad]).tolist() == expected.tolist(), bad


@pytest.mark.parametrize('name', DEFINITIONS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.int64])
def test_boxes_of_any_dtype(name, dtype):
    """An area beyond 65504 would be infinite in float16."""
    box = torch.tensor([30, 40, 240, 425])
    assert run(name, box.to(dtype)).tolist() == run(name, box.float()).tolist()
    assert run(name, box.float(), priors=PRIORS.half()).tolist() == run(name, box.float()).tolist()


@pytest.mark.parametrize('name', DEFINITIONS)
def test_priors_of_another_size_of_image(name):
    other = make_layout(size=(128, 128)).priors
    with pytest.raises(ValueError, match=f'collected for {len(other)} priors, but there are {len(PRIORS)}'):
        run(name, *[BOX] * 5, priors=other, pyramid=find_pyramid(PRIORS))


def test_labels_become_int64():
    empty = torch.tensor([])
    gts = collect([empty.reshape(0, 4), torch.tensor([BOX])], [empty, torch.tensor([1], dtype=torch.int32)], PRIORS)
    assert gts.labels.dtype == torch.int64 and gts.labels.tolist() == [1]


def test_what_cannot_be_collected():
    box, label = torch.tensor([BOX]), torch.tensor([0])
    with pytest.raises(ValueError, match='boxes of 3 images, but labels of 1'):
        collect([box] * 3, [label], PRIORS)
    with pytest.raises(ValueError, match=r'boxes of image 1 in the batch are not \(G, 4\) xyxy, but \(4,\)'):
        collect([box, torch.zeros(4)], [label, torch.zeros(4).long()], PRIORS)
    with pytest.raises(ValueError, match='boxes on meta and labels on cpu, but the priors are on cpu: move'):
        collect([box.to('meta')], [label], PRIORS)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_priors_that_half_precision_moved_off_their_grid(dtype):
    layout = make_layout(size=(320, 320), ratios=[1.0], octave_base_scale=4, scales_per_octave=3)
    with pytest.raises(
        ValueError, match=r'the priors, in torch.\w*float16, do not form grids: generate them in float32'
    ):
        find_pyramid(layout.priors.to(dtype), layout.num_level_priors)
