"""No definition beyond the paper makes the host wait for an accelerator: run where no tensor has a value."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from atss_plugin.matching import pyramid_cache
from tests.assigners.test_precision import Waits, on_meta, pyramid_of
from tests.heads.helpers import BOX, IMAGE, POINT, SMALL, STRIDES, Trained, batch

IMAGES = [[[4.3, 6.1, 50.2, 58.7], [35.2, 10.4, 46.7, 21.3]], [], [[20.4, 30.3, 63.1, 49.6]]]
ASSIGNERS = {
    'simota': dict(type='atss_plugin.SimOTAAssigner', strides=STRIDES),
    'task_aligned': dict(type='atss_plugin.TaskAlignedAssigner'),
    'paa': dict(type='atss_plugin.PAAAssigner'),
    'ddod': dict(type='atss_plugin.DDODAssigner'),
    'rfla': dict(type='atss_plugin.RFLAAssigner', receptive_fields=(91, 267)),
    'atss_nwd': dict(type='atss_plugin.ATSSAssigner', iou_calculator=dict(type='atss_plugin.GaussianWasserstein')),
}


class Counts(TorchDispatchMode):
    """Count what is launched."""

    def __init__(self) -> None:
        super().__init__()
        self.launched = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.launched += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture
def prepared(monkeypatch):
    """A head on the meta device, its outputs for the given number of images, and the arguments of its losses."""

    def prepare(name: str, start: dict, images: list):
        head = Trained(dict(**start, train_cfg=dict(assigner=ASSIGNERS[name]))).head.to('meta')
        feats, samples = batch(images, 0)
        anchors = {key: SMALL['anchor_generator'][key] for key in ('ratios', 'octave_base_scale', 'scales_per_octave')}
        priors, _ = pyramid_of(IMAGE, **anchors)
        find = pyramid_cache.find_pyramid

        def find_elsewhere(on_device, *args):
            found = on_meta(find(priors, *args))
            found.priors = on_device
            return found

        with monkeypatch.context() as patch:
            patch.setattr(pyramid_cache, 'find_pyramid', find_elsewhere)
            outputs = head([level.to('meta') for level in feats])
            rest = [s.gt_instances.to('meta') for s in samples], [s.metainfo for s in samples]
            head.loss_by_feat(*outputs, *rest)  # the first step looks at the priors
        return head, head([level.to('meta') for level in feats]), rest

    return prepare


@pytest.mark.skipif(not hasattr(torch, 'compile'), reason='the meta device of torch 1 lacks operations')
@pytest.mark.parametrize('start', [pytest.param(BOX, id='box'), pytest.param(POINT, id='point')])
@pytest.mark.parametrize('name', ASSIGNERS)
def test_nothing_in_a_training_step_waits_for_the_device(name, start, prepared):
    head, outputs, rest = prepared(name, start, IMAGES)
    with Waits() as waits:
        sum(head.loss_by_feat(*outputs, *rest).values()).backward()
    assert waits.noted == []


@pytest.mark.skipif(not hasattr(torch, 'compile'), reason='the meta device of torch 1 lacks operations')
@pytest.mark.parametrize('name', ASSIGNERS)
def test_as_much_is_launched_for_twelve_images_as_for_three(name, prepared):
    """Except for a few operations per image, such as stacking its predictions and reading its boxes."""
    launched = []
    for images in (IMAGES, IMAGES * 4):
        head, outputs, rest = prepared(name, BOX, images)
        with Counts() as counts:
            head.loss_by_feat(*outputs, *rest)
        launched.append(counts.launched)
    assert launched[1] - launched[0] <= 9 * 16
