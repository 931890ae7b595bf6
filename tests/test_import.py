"""What importing does to a process: nothing, and the core needs torch alone."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

CORE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmcv', 'mmdet', 'mmengine', 'pandas', 'matplotlib', 'rich', 'torchvision'):
            raise ImportError(name + ' is blocked')
sys.meta_path.insert(0, Blocked())
import torch
from atss_plugin import matching as m
ys, xs = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(20) + 0.5, indexing='ij')
levels = []
for stride in (8, 16):
    points = torch.stack([xs, ys], -1)[: 128 // stride, : 160 // stride].reshape(-1, 2) * stride
    levels.append(torch.cat([points - 4 * stride, points + 4 * stride], 1))
priors = torch.cat(levels)
boxes = [torch.tensor([[10., 10., 60., 60.], [40., 30., 150., 120.]]), torch.zeros(0, 4)]
gts = m.collect(boxes, [torch.tensor([4, 7]), torch.zeros(0, dtype=torch.long)], priors)
pyramid, ranges = m.find_pyramid(priors), [(-1, 64), (64, 1e5)]
assert pyramid.num_level_priors == [320, 80]
seen = m.Predictions(priors.repeat(2, 1, 1) + 1, torch.linspace(0.1, 0.9, 2 * 400 * 9).view(2, 400, 9))
for found in (m.atss(pyramid, gts), m.spatial_scale(pyramid, gts, ranges), m.center_sampling(pyramid, gts, 9, ranges),
              m.center_region(pyramid, gts, 1.5, (8, 16), ranges), m.max_iou(priors, gts), m.topk_iou(priors, gts),
              m.atss(pyramid, gts, measure=m.gaussian_wasserstein), m.rfla(pyramid, gts, receptive_fields=(91, 267)),
              m.simota(pyramid, gts, seen, strides=(8, 16)), m.task_aligned(pyramid, gts, seen),
              m.paa(pyramid, gts, seen)):
    assert set(found.labels[0].tolist()) == {-1, 4, 7} and set(found.labels[1].tolist()) == {-1}
assert not any(name.split('.')[0] in ('mmdet', 'mmcv', 'mmengine') for name in sys.modules)
"""
NOTHING = """
import torch
from mmengine.runner.checkpoint import CheckpointLoader
import mmdet.models
permissions = getattr(torch.serialization, 'get_safe_globals', list)
before, loaders = set(permissions()), dict(CheckpointLoader._schemes)
import atss_plugin
assert set(permissions()) == before
assert dict(CheckpointLoader._schemes) == loaders
assert 'atss_plugin.registry' not in __import__('sys').modules
import atss_plugin.registry
assert set(permissions()) == before
"""


@pytest.mark.parametrize('code', [pytest.param(CORE, id='core_without_mmdet'), pytest.param(NOTHING, id='no_effects')])
def test_import(code):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_public_names_are_there():
    import atss_plugin

    for name in atss_plugin.__all__:
        assert getattr(atss_plugin, name) is not None
    assert set(atss_plugin.__all__) <= set(dir(atss_plugin))
    with pytest.raises(AttributeError, match='no attribute'):
        atss_plugin.NoSuchThing  # noqa: B018
